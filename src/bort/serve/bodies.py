"""Bodies of requests and responses; the OpenAPI page is generated from them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, StrictStr, Tag

from bort.data.tables.examples import Example, second_text


def _readable(text: str) -> str:
    if "\0" in text:
        raise ValueError("must hold no NUL character")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("must be valid Unicode; it holds half of a surrogate pair") from None
    return text


Text = Annotated[StrictStr, AfterValidator(_readable)]
_FORM = 'must be "text", ["text"], ["text", "its pair"], or a batch [["text"], ["text", "its pair"], …]'


def _formed(inputs: Any) -> Any:
    """Reject anything but a text or a list, and flat lists of three or more, which are not batches here."""
    if not isinstance(inputs, str | list) or inputs == []:
        raise ValueError(_FORM)
    if len(inputs) > 2 and isinstance(inputs, list) and not isinstance(inputs[0], list):
        raise ValueError(f"{_FORM}; for a batch of single texts put each into a list of its own")
    return inputs


def _shape(inputs: Any) -> str:
    """The form of a request, by its first item, so that an error message is about that form only."""
    if isinstance(inputs, str):
        return "text"
    return "batch" if inputs and isinstance(inputs[0], list) else "one"


One = Annotated[list[Text], Field(min_length=1, max_length=2)]
"""A text in a list, or a pair of texts."""
TextOrPair = Annotated[
    Annotated[Text, Tag("text")] | Annotated[One, Tag("one")], Discriminator(_shape), BeforeValidator(_formed)
]
Inputs = Annotated[
    Annotated[Text, Tag("text")]
    | Annotated[One, Tag("one")]
    | Annotated[Annotated[list[One], Field(min_length=1)], Tag("batch")],
    Discriminator(_shape),
    BeforeValidator(_formed),
]


def _example(parts: list[str]) -> Example:
    return Example(parts[0], second_text(parts[1]) if len(parts) > 1 else None)


class _Body(BaseModel):
    model_config = ConfigDict(extra="ignore")


Side = Literal["Left", "Right", "left", "right"]
_SIDE = "The side that is cut off; must be the model's own if given."
_DIMENSIONS = "Must be the model's own if given."


class PredictRequest(_Body):
    """A text, a pair, or a batch of both."""

    inputs: Inputs = Field(
        description="One text, a pair of two texts in a list, or a list of such lists. A blank second text is none.",
        examples=["Where is my parcel?", [["Where is my parcel?"], ["The zip broke."]]],
    )
    truncate: bool | None = Field(None, description="Cut texts that are too long; by default as the server was told.")
    truncation_direction: Side | None = Field(None, description=_SIDE)
    raw_scores: bool = Field(
        False,
        description="Answer the model's raw outputs instead of probabilities; of a multi-label model the probabilities "
        "of all labels instead of those above their thresholds.",
    )

    @property
    def batched(self) -> bool:
        """Whether a list of answers is expected."""
        return isinstance(self.inputs, list) and isinstance(self.inputs[0], list)

    def examples(self) -> list[Example]:
        """The texts in order."""
        if isinstance(self.inputs, str):
            return [Example(self.inputs)]
        if self.batched:
            return [_example(one) for one in self.inputs]  # type: ignore[arg-type]
        return [_example(self.inputs)]  # type: ignore[arg-type]


class ScoredLabel(BaseModel):
    """A label with its score; the value of a regression has the label `value`. The label is null if the most likely
    label is below its threshold."""

    score: float
    label: str | None


class Parameters(_Body):
    """Parameters of the Hugging Face inference API."""

    top_k: Annotated[int, Field(ge=1)] | None = None
    """Number of labels to return; by default all."""
    function_to_apply: Literal["softmax", "sigmoid", "none"] | None = None


def _texts(given: Any) -> Any:
    """Reject anything but a text or a list of texts, with one message for both forms."""
    if isinstance(given, list) and given and all(isinstance(one, int | list) for one in given):
        raise ValueError("must be texts; token ids would be those of another model's tokenizer")
    if not isinstance(given, str | list) or given == []:
        raise ValueError('must be "text", or a list of texts ["text", …] that is not empty')
    return given


TextOrTexts = Annotated[
    Annotated[Text, Tag("text")] | Annotated[Annotated[list[Text], Field(min_length=1)], Tag("batch")],
    Discriminator(lambda given: "text" if isinstance(given, str) else "batch"),
    BeforeValidator(_texts),
]
"""One text, or several."""


class PipelineRequest(_Body):
    """A request of the Hugging Face inference API: a flat list is a batch."""

    inputs: TextOrTexts = Field(examples=["Where is my parcel?"])
    parameters: Parameters = Parameters()


class EmbedRequest(_Body):
    """A text or a list of texts."""

    inputs: TextOrTexts = Field(examples=["Where is my parcel?", ["Where is my parcel?", "The zip broke."]])
    normalize: bool = Field(True, description="Scale each vector to length 1.")
    truncate: bool | None = Field(None, description="Cut texts that are too long; by default as the server was told.")
    truncation_direction: Side | None = Field(None, description=_SIDE)
    dimensions: Annotated[int, Field(ge=1)] | None = Field(None, description=_DIMENSIONS)
    prompt_name: str | None = Field(None, description="Must not be given: the model's own prompt, if any, is used.")


class EmbeddingsRequest(_Body):
    """A request of the OpenAI API."""

    input: TextOrTexts = Field(examples=["Where is my parcel?", ["Where is my parcel?", "The zip broke."]])
    model: str | None = Field(None, description="One of the served models; the first one for any other name.")
    encoding_format: Literal["float", "base64"] = Field("float", description="base64: of little-endian float32.")
    dimensions: Annotated[int, Field(ge=1)] | None = Field(None, description=_DIMENSIONS)
    user: str | None = None


class EmbeddingItem(BaseModel):
    """One vector of `/v1/embeddings`."""

    object: Literal["embedding"] = "embedding"
    embedding: list[float] | str
    index: int


class Usage(BaseModel):
    """Token counts of a request."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsResponse(BaseModel):
    """A response of the OpenAI API."""

    object: Literal["list"] = "list"
    data: list[EmbeddingItem]
    model: str
    usage: Usage


class ExplainRequest(_Body):
    """A text, and the label to explain."""

    inputs: TextOrPair = Field(examples=["Where is my parcel?"])
    label: Text | None = Field(None, description="By default the likeliest.")

    def example(self) -> Example:
        """The text or pair."""
        return Example(self.inputs) if isinstance(self.inputs, str) else _example(self.inputs)


class Word(BaseModel):
    """A piece of the text, and how much the label's probability falls without it."""

    text: str
    start: int
    end: int
    weight: float
    part: Literal["text", "text_b"] = "text"


class Explanation(BaseModel):
    """How much each word contributes to the label (positive) or against it (negative)."""

    label: str
    score: float
    words: list[Word]


class Info(BaseModel):
    """Description of a served model."""

    name: str
    kind: Literal["classification", "regression", "multilabel", "embedding"]
    labels: list[str]
    thresholds: dict[str, float]
    max_input_length: int
    engine: str
    precision: str
    sha256: str
    pairs: bool | None
    """Whether the model was fine-tuned on pairs of texts; null if unknown."""
    model_type: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """As in text-embeddings-inference: `classifier` with its labels, or `embedding` with its pooling."""
    size: int | None = None
    """Width of an encoder's vectors."""
    examples: list[dict[str, Any]] = Field(default_factory=list)
    max_concurrent_requests: int
    max_client_batch_size: int
    max_batch_tokens: int
    auto_truncate: bool
    version: str


class ErrorBody(BaseModel):
    """Why a request was not answered."""

    error: str
    error_type: str
