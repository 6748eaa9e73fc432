"""The embedded model as a folder that other programs load: transformers, vLLM or a trainer.

    export(Path("omr-tiny"))              # the packaged weights with all the files below
    export_processor(checkpoint_folder)   # only these files, beside other weights and a tokenizer

**Processor files**: tokenizer_config.json, chat_template.jinja, preprocessor_config.json. The
template renders a chat as `encode_prompt` does. The two differ where

- an image is not square: there it keeps its proportions (500 x 300 becomes 80 x 48 pixels, 15 image
  tokens), while `encode_prompt` resizes every image to 64 x 64 pixels. A square of 64 pixels is fed
  the same by both;
- a prompt is long or holds control tokens: there it is neither cut to 448 tokens nor escaped;
- a chat has several images, or one that is not in front: there each stands where the chat has it.
  The
  model was trained with one, in front.
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

# A copy in code, so that a new set of weights gets the same template; a test compares both.
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
"""Renders a chat. What the assistant says, with its end token, is marked as generated, so that
trainers can restrict their loss to it."""

TOKENIZER = {
    # The model type's own class would replace the splitting of digits that tokenizer.json declares.
    "tokenizer_class": "PreTrainedTokenizerFast",
    "pad_token": PAD,
    "eos_token": END,
    "bos_token": None,
    "unk_token": None,
    # Servers refuse longer prompts by this number.
    "model_max_length": MOST_TOKENS,
    "clean_up_tokenization_spaces": False,
    "extra_special_tokens": [START, VISION_START, VISION_END, IMAGE_PAD, VIDEO_PAD],
    "processor_class": "Qwen2_5_VLProcessor",
}

PREPROCESSOR = {
    "image_processor_type": "Qwen2VLImageProcessor",
    "processor_class": "Qwen2_5_VLProcessor",
    # Areas, whatever the names say: this processor bounds the number of pixels.
    "size": {"shortest_edge": SIDE * SIDE, "longest_edge": SIDE * SIDE},
    "patch_size": PATCH,
    "merge_size": MERGE,
    "temporal_patch_size": 2,
    "image_mean": [MEAN] * 3,
    "image_std": [STD] * 3,
    "do_convert_rgb": True,
}


def export(folder: Path) -> None:
    """Copies the packaged model into a folder, which is made if needed.

    The folder then holds weights, configuration, tokenizer and processor files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in (*MODEL_FILES, "tokenizer.json", *PROCESSOR):
        shutil.copyfile(FOLDER / name, folder / name)


def export_processor(folder: Path) -> None:
    """Writes the processor files into a folder with other weights of this architecture.

    Their tokenizer.json must be there too.
    """
    for name, text in PROCESSOR.items():
        write_text(folder / name, text)


MODEL_FILES = ("config.json", "generation_config.json", "model.safetensors")
PROCESSOR = {
    "chat_template.jinja": TEMPLATE,
    "tokenizer_config.json": json.dumps(TOKENIZER, indent=2) + "\n",
    "preprocessor_config.json": json.dumps(PREPROCESSOR, indent=2) + "\n",
}
