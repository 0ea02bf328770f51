"""The same exported model behind LitServe, with its batching, and with the route and bodies of `bort serve`.

python -m benchmarks.speed.serving_litserve FOLDER PORT
"""

import sys
from typing import Any

from fastapi import Request
from litserve import LitAPI, LitServer

from bort import Predictor


class Served(LitAPI):
    """Classifies texts. LitServe sends it to another process, so it must be defined at module level."""

    def __init__(self, folder: str) -> None:
        super().__init__(max_batch_size=32, batch_timeout=0.0)
        self.folder = folder

    def setup(self, device: str) -> None:
        self.predictor = Predictor(self.folder, threads=1)

    def decode_request(self, request: Request) -> Any:
        return request["inputs"]

    def predict(self, texts: list[str]) -> Any:
        return self.predictor.predict(texts)

    def encode_response(self, output: Any) -> Any:
        return [{"label": output.label, "score": max(output.probabilities.values())}]


if __name__ == "__main__":
    server = LitServer(Served(sys.argv[1]), accelerator="cpu")
    server.run(port=int(sys.argv[2]), generate_client_file=False, log_level="warning")
