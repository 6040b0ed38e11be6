"""Growing a dataset: a model drafts records, people approve them. One file per way."""

from studio.instructions.growing.base import LEFT_OUT, Desk, Draft, Grower, Growing, Portion
from studio.instructions.growing.from_documents import FromDocuments
from studio.instructions.growing.paraphrase import Paraphrase
from studio.instructions.growing.self_instruct import SelfInstruct

__all__ = [
    "LEFT_OUT",
    "Desk",
    "Draft",
    "FromDocuments",
    "Grower",
    "Growing",
    "Paraphrase",
    "Portion",
    "SelfInstruct",
]
