# docker build -t segmentation .                          for CPUs
# docker build -t segmentation:gpu --build-arg DEVICE=gpu .   for NVIDIA GPUs; the host needs its driver and container toolkit
FROM python:3.11-slim-bookworm

ARG DEVICE=cpu
WORKDIR /app

# rasterio's wheel needs it, and the slim image lacks it.
RUN apt-get update && apt-get install --yes --no-install-recommends libexpat1 && rm -rf /var/lib/apt/lists/*

# Before the code, so that a change of it does not install everything anew.
COPY requirements.txt requirements-gpu.txt ./
RUN pip install --no-cache-dir --requirement requirements.txt \
    $([ "$DEVICE" = gpu ] && echo --requirement requirements-gpu.txt) \
    && python -c "import cv2, rasterio.features, tensorflow"

COPY . .
# Packages at the root are found without being installed, wherever a command is started.
ENV PYTHONPATH=/app PYTHONUNBUFFERED=1

# What a stranger's file might do, it does not do as root.
RUN useradd --uid 10001 --create-home app
USER app

EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]

# docker run ... segmentation serve.py /runs/nuclei; train.py, test.py, predict.py and -m preprocess as well
ENTRYPOINT ["python"]
CMD ["serve.py", "--help"]
