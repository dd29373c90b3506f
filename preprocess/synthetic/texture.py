"""Noise that looks like something."""

import cv2
import numpy as np


def smooth_noise(
    generator: np.random.Generator, height: int, width: int, sigma: float, sigma_y: float | None = None
) -> np.ndarray:
    """Returns noise of mean 0 and deviation 1 whose grain has about `sigma` pixels: float32 [height, width]."""
    noise = generator.standard_normal((height, width), np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), sigma, sigmaY=sigma_y or sigma)
    return (noise - noise.mean()) / noise.std()


def blend(image: np.ndarray, color: tuple[int, int, int], share: np.ndarray) -> np.ndarray:
    """Returns the image with so large a share of a colour: float32 [height, width, 3], share [height, width]."""
    return image + share[:, :, np.newaxis].astype(np.float32) * (np.array(color, np.float32) - image)
