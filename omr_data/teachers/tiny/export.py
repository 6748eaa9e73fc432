"""The embedded model as a folder that other programs load: transformers, vLLM, or a trainer that starts from it.

    export(Path("omr-tiny"))              # the packaged weights with all the files below
    export_processor(checkpoint_folder)   # only these files, beside weights and a tokenizer of one's own

**Processor files**: tokenizer_config.json, chat_template.jinja, preprocessor_config.json. The template writes
a chat as `encode_prompt` does. Where the two differ:

- an image that is no square keeps its proportions (500 x 300 becomes 80 x 48 pixels, 15 image tokens), while our own path
  draws every image on 64 x 64 pixels; a square of 64 pixels is fed the same by both;
- a prompt is not cut to 448 tokens, and control tokens in a user's text are not defused;
- an image stands where the chat has it, and there may be several: the model was trained with one, in front.
"""

import json
import shutil
from pathlib import Path

from omr_data.store.atomic import write_text
from omr_data.teachers.tiny import FOLDER
from omr_data.teachers.tiny.prompts import (
    END,
    IMAGE_PAD,
    MEAN,
    MERGE,
    PAD,
    PATCH,
    SIDE,
    START,
    STD,
    VIDEO_PAD,
    VISION_END,
    VISION_START,
)

MOST_TOKENS = 1_024
"""The length that positions were configured for."""

TEMPLATE = f"""\
{{%- macro spoken(content) -%}}
{{%- if content is string -%}}{{{{ content }}}}{{%- else -%}}
{{%- for part in content -%}}
{{%- if part.type in ('image', 'image_url') -%}}{VISION_START}{IMAGE_PAD}{VISION_END}
{{%- elif 'text' in part -%}}{{{{ part.text }}}}{{%- endif -%}}
{{%- endfor -%}}
{{%- endif -%}}
{{%- endmacro -%}}
{{%- for message in messages -%}}
{{{{- '{START}' + message.role + '\\n' -}}}}
{{%- if message.role == 'assistant' -%}}
{{%- generation -%}}{{{{- spoken(message.content) + '{END}' -}}}}{{%- endgeneration -%}}
{{%- else -%}}{{{{- spoken(message.content) + '{END}' -}}}}{{%- endif -%}}
{{{{- '\\n' -}}}}
{{%- endfor -%}}
{{%- if add_generation_prompt -%}}{{{{- '{START}assistant\\n' -}}}}{{%- endif -%}}
"""
"""A chat as text. What the assistant says, with its end token, is marked as generated, for losses on answers only."""

TOKENIZER = {
    "tokenizer_class": "PreTrainedTokenizerFast",  # tokenizer.json as it is: the model type's own class would split numbers otherwise
    "pad_token": PAD,
    "eos_token": END,
    "bos_token": None,
    "unk_token": None,
    "model_max_length": MOST_TOKENS,
    "clean_up_tokenization_spaces": False,
    "extra_special_tokens": [START, VISION_START, VISION_END, IMAGE_PAD, VIDEO_PAD],
    "processor_class": "Qwen2_5_VLProcessor",
}

PREPROCESSOR = {
    "image_processor_type": "Qwen2VLImageProcessor",
    "processor_class": "Qwen2_5_VLProcessor",
    "size": {
        "shortest_edge": SIDE * SIDE,
        "longest_edge": SIDE * SIDE,
    },  # areas, for this processor
    "patch_size": PATCH,
    "merge_size": MERGE,
    "temporal_patch_size": 2,
    "image_mean": [MEAN] * 3,
    "image_std": [STD] * 3,
    "do_convert_rgb": True,
}


def export(folder: Path) -> None:
    """Copies the packaged model into a folder, which is made if needed: weights, configuration and processor files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (*MODEL_FILES, "tokenizer.json", *PROCESSOR):
        shutil.copyfile(FOLDER / name, folder / name)


def export_processor(folder: Path) -> None:
    """Writes the processor files beside the weights and the tokenizer.json of a model of this architecture."""
    for name, text in PROCESSOR.items():
        write_text(folder / name, text)


MODEL_FILES = ("config.json", "generation_config.json", "model.safetensors")
PROCESSOR = {
    "chat_template.jinja": TEMPLATE,
    "tokenizer_config.json": json.dumps(TOKENIZER, indent=2) + "\n",
    "preprocessor_config.json": json.dumps(PREPROCESSOR, indent=2) + "\n",
}
