"""python serve.py RUN: masks over HTTP, by a trained run."""

import os
from pathlib import Path

import cli
from serving.config import ServeConfig


def main() -> None:
    """Parses the command line, loads the model, and answers until it is told to stop."""
    paths, config = cli.parse(
        ServeConfig,
        {"run": "Folder made by train.py."},
        "python serve.py",
        "Answers HTTP requests with masks of the pictures and scans they bring.",
    )
    from serving.server import open_socket, read_key, serve
    from training.run_folder import RunFolder, read_config

    run = RunFolder(Path(paths["run"]))
    for member in (paths["run"], *config.ensemble):
        read_config(RunFolder(Path(member)))
    key = read_key(config, os.environ.get("SEGMENTATION_API_KEY"))
    with open_socket(config.host, config.port) as opened:  # before TensorFlow, whose import takes seconds
        from inference.segmenter import load_segmenter
        from serving.app import make_app
        from serving.service import Service

        predictor = load_segmenter(run, config)
        service = Service(predictor, config)
        host, port = opened.getsockname()[:2]
        address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

        def tell() -> None:
            cli.console.print(f"{'listening':<10} {address}; the model warms up")
            service.batcher.ready.add_done_callback(tell_ready)

        def tell_ready(warm) -> None:
            words = "open it in a browser; Ctrl-C finishes what is taken, and stops"
            cli.console.print(f"{'ready':<10} {words}" if warm.exception() is None else "failed     see above")

        cli.console.print(f"{'model':<10} {run.path}: {', '.join(predictor.trained.scored_classes.values())}")
        serve(make_app(service, run.path, key), opened, config, tell, service.admission.stop)
    cli.console.print(f"{'stopped':<10} all that was taken is answered")


if __name__ == "__main__":
    cli.run(main)
