"""What one would write instead of `bort serve`, each on the route and the bodies that it takes.

python -m benchmarks.speed.serving_peers fastapi|litserve FOLDER PORT
"""

from __future__ import annotations

import sys
from typing import Any


def fastapi(folder: str, port: int) -> None:
    """A few lines around `transformers.pipeline`, as many a tutorial has them."""
    import torch
    import uvicorn
    from fastapi import FastAPI
    from pydantic import BaseModel
    from transformers import pipeline

    class Body(BaseModel):
        inputs: str

    torch.set_num_threads(1)
    classify = pipeline("text-classification", model=folder, top_k=None)
    app = FastAPI()

    @app.post("/predict")
    def predict(body: Body) -> Any:
        return classify(body.inputs)

    uvicorn.run(app, port=port, log_level="warning")


def litserve(folder: str, port: int) -> None:
    """The same exported model behind LitServe, with its batching."""
    from litserve import LitAPI, LitServer

    from bort import Predictor

    class Served(LitAPI):
        def setup(self, device: str) -> None:
            self.predictor = Predictor(folder, threads=1)

        def decode_request(self, request: Any) -> Any:
            return request["inputs"]

        def predict(self, texts: list[str]) -> Any:
            return self.predictor.predict(texts)

        def encode_response(self, output: Any) -> Any:
            return [{"label": output.label, "score": output.probability}]

    LitServer(Served(max_batch_size=32, batch_timeout=0.0), accelerator="cpu").run(
        port=port, generate_client_file=False, log_level="warning"
    )


if __name__ == "__main__":
    {"fastapi": fastapi, "litserve": litserve}[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
