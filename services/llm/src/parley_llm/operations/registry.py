"""Every operation, once."""

from parley_llm.operations.audio import Speech, Transcription, Translation
from parley_llm.operations.base import Operation
from parley_llm.operations.chat import Chat
from parley_llm.operations.embeddings import Embeddings
from parley_llm.operations.images import ImageEdit, ImageGeneration
from parley_llm.operations.moderation import Moderation
from parley_llm.operations.responses import Responses
from parley_llm.operations.text_completion import TextCompletion

CHAT = Chat()
EMBEDDINGS = Embeddings()
IMAGE_GENERATION = ImageGeneration()
IMAGE_EDIT = ImageEdit()
TRANSCRIPTION = Transcription()
TRANSLATION = Translation()
SPEECH = Speech()

OPERATIONS: tuple[Operation, ...] = (
    CHAT,
    TextCompletion(),
    Responses(),
    EMBEDDINGS,
    Moderation(),
    IMAGE_GENERATION,
    IMAGE_EDIT,
    TRANSCRIPTION,
    TRANSLATION,
    SPEECH,
)
