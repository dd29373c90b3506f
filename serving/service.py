"""Uploads → answers: decoded and encoded in a pool of threads, predicted in the batches of one."""

import asyncio
import dataclasses
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from inference.direct import DirectModel
from inference.images import decide
from inference.inputs.frames import Frame
from inference.outputs.found import Found
from inference.postprocess import Steps
from inference.predictor import Predictor
from serving.admission import Admission
from serving.answers import MaskAnswer, ObjectsAnswer, OverlayAnswer
from serving.batcher import Batcher
from serving.config import ServeConfig
from serving.content import examine, open_frames
from serving.errors import RefusedError, busy
from serving.metrics import Metrics
from serving.schema import AnswerKind, Shape
from serving.uploads import decode_json
from serving.view import ViewAnswer, view_bytes


class Wish(NamedTuple):
    """What a client asks for.

    Attributes:
      answer: in which form.
      threshold: in place of the predictor's, with no steps behind it; None: the predictor's.
      classes: None: all.
      shape: of objects.
    """

    answer: AnswerKind = "objects"
    threshold: float | None = None
    classes: list[str] | None = None
    shape: Shape = "polygon"


class Service:
    """A predictor that answers many at once."""

    def __init__(self, predictor: Predictor, config: ServeConfig):
        """Takes a predictor that segments, whose model nobody else calls from then on.

        Raises:
          ValueError: it cannot be served.
        """
        self.predictor, self.config = predictor, config
        self.model = DirectModel(predictor, config.batch_size)
        self.metrics = Metrics()
        self.admission = Admission(config.queue, config.max_memory_mib * 2**20)
        self.batcher = Batcher(
            self.model.predict,
            self.model.sizes[-1],
            config.delay_ms / 1000,
            self.model.warm_up,
            self.metrics.count_batch,
        )
        self._threads = ThreadPoolExecutor(config.threads, thread_name_prefix="codec")
        self.metrics.watch("queue_length", "Images and tiles that wait for a batch.", lambda: self.batcher.waiting)
        self.metrics.watch("requests_in_hand", "Requests that are not answered.", lambda: self.admission.requests)

    def start(self) -> None:
        """Warms up in the background."""
        self.batcher.start()

    def close(self) -> None:
        """Finishes what was taken."""
        self.batcher.close()
        self._threads.shutdown()

    def check_ready(self) -> None:
        """Raises RefusedError (503) unless it answers: it warms up, has failed, or stops."""
        if self.admission.stopping:
            raise busy("the server stops; try again later", seconds=5)
        if not self.batcher.ready.done():
            raise busy("the server warms up; try again later")
        if self.batcher.ready.exception() is not None or not self.batcher.is_alive:
            raise busy("the model failed; see the server's output", seconds=60)

    def check_wish(self, wish: Wish) -> None:
        """Raises RefusedError (422) for classes that are not there, or a threshold that cannot be chosen."""
        known = list(self.predictor.trained.scored_classes.values())
        if wish.classes is not None and not set(wish.classes) <= set(known):
            raise RefusedError(422, f"class: expected some of {', '.join(known)}, found another")
        if wish.threshold is not None and self.predictor.gate is not None:
            raise RefusedError(422, "threshold: expected none, because the gate's own was chosen for the run's")
        self._answer(wish)

    async def predict(self, body: bytes, is_json: bool, wish: Wish) -> tuple[bytes, str]:
        """Returns (body, media type) of the answer to a file, or to a JSON that holds one.

        Cancelled, it drops what has not been begun.

        Raises:
          RefusedError: the file or the wish is wrong, or there is too much to do.
        """
        held = 2 * len(body) if is_json else 0
        if is_json:
            body = await self._in_thread(decode_json, body)
        upload = await self._in_thread(examine, body, self.predictor.trained, self.config)
        num_classes = len(self.predictor.trained.scored_classes)
        memory = upload.memory + (view_bytes(upload.pixels, num_classes) if wish.answer == "view" else 0)
        with self.admission.reserve(memory, held):
            frames = open_frames(upload, self.predictor.trained, self.config)
            answer = self._answer(wish)
            await self._predict_frames(frames, self._predictor(wish), answer)
            return await self._in_thread(answer.finish)

    def _answer(self, wish: Wish) -> Any:
        trained = self.predictor.trained
        if wish.answer == "mask":
            return MaskAnswer(trained, wish.classes)
        if wish.answer == "overlay":
            return OverlayAnswer(trained, wish.classes)
        if wish.answer == "view":
            return ViewAnswer(trained, wish.classes)
        return ObjectsAnswer(trained, wish.classes, wish.shape)

    def _predictor(self, wish: Wish) -> Predictor:
        if wish.threshold is None:
            return self.predictor
        steps = dict.fromkeys(self.predictor.trained.scored_classes, Steps(wish.threshold))
        return dataclasses.replace(self.predictor, postprocess=steps)

    async def _predict_frames(self, frames: Iterator[Frame], predictor: Predictor, answer: Any) -> None:
        """Gives the answer all frames, in their order; of a scan's slices some at a time."""
        running: deque[asyncio.Task] = deque()
        try:
            while (frame := await self._in_thread(next, frames, None)) is not None:
                running.append(asyncio.create_task(self._predict_frame(frame, predictor, answer.write)))
                if len(running) > self.model.sizes[-1]:
                    answer.collect(await running.popleft())
            while running:
                answer.collect(await running.popleft())
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _predict_frame(self, frame: Frame, predictor: Predictor, write: Callable[[Found], Any]) -> Any:
        try:
            parts, count = self.model.cut(frame.pixels)
        except ValueError as error:
            raise RefusedError(413, str(error)) from error
        predicted = await asyncio.wrap_future(self.batcher.submit(parts, count))
        written = await self._in_thread(self._decide, frame, predicted, predictor, write)
        self.metrics.count_image()
        return written

    def _decide(self, frame: Frame, parts: list, predictor: Predictor, write: Callable[[Found], Any]) -> Any:
        probabilities, cleared = self.model.join(parts, *frame.pixels.shape[:2])
        height, width = frame.image.shape[:2]
        return write(Found(frame, decide(predictor, probabilities, height, width, cleared), predictor.trained))

    async def _in_thread(self, function: Callable, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)
