"""A tiny causal language model and its tokenizer, made from a config and a seed: nothing is downloaded.

Qwen2 architecture (width 32, 2 layers), one token a character with byte fallback, the usual Qwen2 chat template with
its own system message where none is given. The weights are random: it knows nothing, which is enough for masks, losses,
adapters and constraints. Measured on one thread: the base is made in 0.1 s once the stack is imported.
"""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from extraction.prompts import PROMPTS
from tests.need import missing

LEARNING_STACK = ("torch", "transformers", "peft", "trl", "llguidance")
END, START, DOCUMENT_END = "<|im_end|>", "<|im_start|>", "<|endoftext|>"
TEMPLATE = (
    "{%- for message in messages %}"
    "{%- if loop.first and message['role'] != 'system' %}"
    "{{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}"
    "{%- endif %}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
LETTERS = "".join(map(chr, range(32, 127))) + "\n"
EXTRA = "加微信薇号代开发票刷单兼职日结办证毕业低价出售高仿包邮私聊联系电话扣群优惠卖买钱赌博开户今天气不错吃饭"


def need_learning_stack() -> None:
    """Skip this test where the learning stack is not installed; fail it under CI=true."""
    for package in LEARNING_STACK:
        if find_spec(package) is None:
            missing(f"the learning stack is not installed: {package}")


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny base, made once a session: import this fixture where it is needed, and write nothing into the folder."""
    need_learning_stack()
    return tiny_base(tmp_path_factory.mktemp("tiny") / "base")


def tiny_tokenizer():
    """Characters of LETTERS, EXTRA and the prompts; everything else is spelled in bytes."""
    from tokenizers import AddedToken, Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    asked = "".join(
        prompt.system + prompt.instruction + prompt.lead_in + prompt.separator for prompt in PROMPTS.values()
    )
    tokens = [*(f"<0x{byte:02X}>" for byte in range(256)), *sorted(set(LETTERS + EXTRA + asked))]
    model = models.BPE(vocab={token: id_ for id_, token in enumerate(tokens)}, merges=[], byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in (DOCUMENT_END, START, END)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=DOCUMENT_END,
        additional_special_tokens=[START],
        chat_template=TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=4096,
    )


def tiny_base(folder: Path, *, seed: int = 0) -> Path:
    """A folder in the layout of transformers: config, safetensors and tokenizer. The same seed gives the same files."""
    import torch
    from transformers import GenerationConfig, Qwen2Config, Qwen2ForCausalLM

    tokenizer = tiny_tokenizer()
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Qwen2ForCausalLM(config)
    # As many published models do, it asks for sampling and a penalty: whoever wants greedy answers has to say so.
    model.generation_config = GenerationConfig(
        do_sample=True, temperature=0.7, repetition_penalty=1.3, eos_token_id=config.eos_token_id
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_adapter(folder: Path, base: Path, *, seed: int = 1, scale: float = 0.5) -> Path:
    """A LoRA adapter of the tiny base that changes what it says: random weights of standard deviation `scale`."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from extraction.generation import stamp

    model = AutoModelForCausalLM.from_pretrained(base)
    config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    adapted = get_peft_model(model, config)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for name, weights in adapted.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(weights, std=scale)
    adapted.save_pretrained(str(folder))
    (folder / "training.json").write_text(json.dumps(stamp(base, "zh-1")))
    return folder
