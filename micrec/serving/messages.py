"""What the service reads and writes."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from micrec.retrieval import ListRequest, Recommendation

MOST_REQUESTS = 1_000  # of one batch
MOST_ITEMS = 10_000  # of one list
MOST_CLICKS = 10_000  # of one history

Id = Annotated[str | int, Field(description="An id as the log spells it.")]


class RecommendRequest(BaseModel):
    """One list: for a user of the bundle, or for an unseen one from fields and fresh clicks."""

    model_config = ConfigDict(extra="forbid")

    user: Id | None = Field(None, description="A user of the bundle; without one the user is unseen.")
    fields: dict[str, Any] = Field({}, description="Fields of an unseen user; what is not given is missing.")
    history: list[Id] = Field([], max_length=MOST_CLICKS, description="Clicks of an unseen user, oldest first.")
    k: PositiveInt = Field(10, le=MOST_ITEMS, description="Length of the list.")
    hide_seen: bool = Field(False, description="Leave out what the user has clicked.")

    @model_validator(mode="after")
    def _one_kind_of_user(self) -> "RecommendRequest":
        if self.user is not None and (self.fields or self.history):
            raise ValueError("user goes without fields and history, which are for unseen users: leave one out")
        return self

    def asked(self) -> ListRequest:
        return ListRequest(self.k, self.user, self.fields, self.history, self.hide_seen)


class BatchRequest(BaseModel):
    """Many lists at once."""

    model_config = ConfigDict(extra="forbid")

    requests: list[RecommendRequest] = Field(max_length=MOST_REQUESTS)


class ListedItem(BaseModel):
    """One place of a list."""

    item_id: Id
    score: float
    title: str | None = None


class ItemList(BaseModel):
    """A list, best first."""

    items: list[ListedItem]


class Failure(BaseModel):
    """Why there is no list."""

    error: str


class BatchAnswer(BaseModel):
    """A list or a failure for each request, in their order."""

    answers: list[ItemList | Failure]


class Health(BaseModel):
    """What is served."""

    bundle: str
    model: str
    index: str
    users: int
    items: int
    loaded_at: str = Field(description="When the bundle was read, ISO 8601, UTC.")
    last_error: str | None = Field(description="Why the newest bundle was not taken.")


def listed(found: Recommendation) -> dict[str, Any]:
    """An ``ItemList`` as plain values."""
    if found.titles is None:
        pairs = zip(found.item_ids, found.scores, strict=True)
        return {"items": [{"item_id": item, "score": score} for item, score in pairs]}
    rows = zip(found.item_ids, found.scores, found.titles, strict=True)
    return {"items": [{"item_id": item, "score": score, "title": title} for item, score, title in rows]}
