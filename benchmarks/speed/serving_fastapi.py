"""A few lines of FastAPI around `transformers.pipeline`, with the route and bodies of `bort serve`.

python -m benchmarks.speed.serving_fastapi FOLDER PORT
"""

import sys
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from transformers import pipeline


class Body(BaseModel):
    inputs: str


if __name__ == "__main__":
    torch.set_num_threads(1)
    classify = pipeline("text-classification", model=sys.argv[1], top_k=None)
    app = FastAPI()

    @app.post("/predict")
    def predict(body: Body) -> Any:
        return classify(body.inputs)

    uvicorn.run(app, port=int(sys.argv[2]), log_level="warning")
