"""Reads chats in the forms in which datasets give them.

    role and content       {"role": "user", "content": "..."}           OpenAI, ms-swift
    from and value         {"from": "human", "value": "..."}            ShareGPT, LLaVA
    content parts          {"role": "user", "content": [{"type": "text", "text": "..."}, ...]}
    pairs                  ["a question", "its answer"]                  history of ms-swift, Alpaca
    user and assistant     {"user": "...", "assistant": "..."}           The Cauldron

A chat may be a list of these, or the same list as a JSON string.
"""

import json
from collections.abc import Iterator
from typing import Any, Literal

from omr_data.errors import BadRow
from omr_data.records import IMAGE_MARK, Message
from omr_data.sources.convert import as_text

Role = Literal["system", "user", "assistant"]

ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "chatgpt": "assistant",
}
"""The names that datasets give to the three roles."""


def read_chat(cell: object, column: str) -> tuple[list[Message], list[Any]]:
    """Returns the messages of a chat, and the images that stand inside content parts, in order.

    Args:
        cell: The cell, a list or a JSON string of one.
        column: The name of the column, for the reason.

    Raises:
        BadRow: The chat has another form, is empty, or its turns do not alternate.
    """
    if isinstance(cell, str):
        try:
            cell = json.loads(cell)
        except (ValueError, RecursionError) as error:
            raise BadRow(f"no chat in column '{column}'", "the text is not JSON") from error
    if not isinstance(cell, list | tuple):
        raise BadRow(f"no chat in column '{column}'", f"found {type(cell).__name__}")
    # Images in content parts are collected on the way, in the order of their marks.
    images: list[Any] = []
    messages: list[Message] = []
    for item in cell:
        messages += _messages(item, column, images)
    # Chat templates raise where turns do not alternate, in the middle of a training run.
    roles = [message.role for message in messages]
    turns = roles
    if roles[:1] == ["system"]:
        turns = roles[1:]
    if not turns:
        raise BadRow(f"the chat in column '{column}' is empty")
    expected = ["user", "assistant"] * len(turns)
    if turns != expected[: len(turns)]:
        raise BadRow("the turns of a chat do not alternate", ", ".join(roles)[:200])
    return messages, images


def read_history(cell: object, column: str) -> list[Message]:
    """Returns the earlier turns of a question: a list of [question, answer] pairs. Raises BadRow.

    Args:
        cell: The cell. Null and empty are no history.
        column: The name of the column, for the reason.
    """
    # Most questions have no history, and datasets write that in four ways.
    if cell in (None, "", [], "[]"):
        return []
    return read_chat(cell, column)[0]


def _messages(item: object, column: str, images: list[Any]) -> Iterator[Message]:
    match item:
        case {"role": str(role), "content": content} | {"from": str(role), "value": content}:
            if role.lower() not in ROLES:
                # A tool's turn has no place in the three roles, and leaving it out would break the
                # answer that follows from it.
                raise BadRow("a chat has a role of an unknown kind", f"{role!r} in '{column}'")
            yield Message(ROLES[role.lower()], _content(content, column, images))
        case {"user": question, "assistant": answer}:
            yield Message("user", _content(question, column, images))
            yield Message("assistant", _content(answer, column, images))
        case [str() as question, str() as answer]:
            yield Message("user", as_text(question, column))
            yield Message("assistant", as_text(answer, column))
        case _:
            # The whole row is refused: a chat without one of its messages is another chat.
            raise BadRow("a chat has a message of an unknown form", f"{item!r:.200} in '{column}'")


def _content(content: object, column: str, images: list[Any]) -> str:
    if not isinstance(content, list | tuple):
        return as_text(content, column)
    texts = []
    for part in content:
        match part:
            case str():
                texts.append(part)
            # Arrow pads parts of one list to the same keys, with null where a key is not used.
            case {"type": "text", "text": str(text)}:
                texts.append(text)
            case {"type": "image" | "image_url" | "input_image"}:
                texts.append(IMAGE_MARK)
                keys = ("image", "image_url", "bytes", "path", "url")
                given = [part[key] for key in keys if part.get(key) is not None]
                # A part without an image of its own means the next one of the images column.
                images.extend(given[:1])
            case _:
                raise BadRow("a content part of an unknown kind", f"{part!r:.200} in '{column}'")
    return as_text("".join(texts), column)
