"""LLaVA-CoT-100k: about 98,700 visual questions with staged reasoning.

Published as Xkev/LLaVA-CoT-100k under apache-2.0.

A row of train.jsonl: id, image (a relative path), conversations [{from: human | gpt, value}]. The
answer stands inside the tags SUMMARY, CAPTION, REASONING and CONCLUSION. The images are one zip in
parts, to be joined first.
"""

from dataclasses import dataclass

from omr_data.sources.planned import PlannedSource


@dataclass(frozen=True)
class Source(PlannedSource):
    """Declared; its converter is not written yet."""

    repo = "Xkev/LLaVA-CoT-100k"
    license = "apache-2.0"
    patterns = ("train.jsonl", "image.zip.part-*")
