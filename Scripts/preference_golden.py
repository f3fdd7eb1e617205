#!/usr/bin/env python3
"""Writes the golden of preference tuning: five steps of TRL's DPOTrainer and ORPOTrainer on a tiny llama in f32.

    pip install torch transformers peft trl datasets
    python Scripts/preference_golden.py Tests/LoRATrainingTests/Goldens/trl_preference.json

The base is that of the tests' `TrainerModel`: every tensor is a formula of its name in GGUF (`oracle_base.uniform`), where
rows of q and k are permuted. A is a formula of PEFT's name and B is zero, or a formula as well where an adapter is trained
further; TRL then takes a copy of it as reference. Prompts and answers are SplitMix64 draws. Of each step the golden keeps
the pairs as TRL encoded them, the loss, what TRL logs, and of each gradient the norm and projections on random signs.
"""
import json
import math
import sys
import tempfile

import torch
import trl
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, TrainerCallback
from trl import DPOConfig, DPOTrainer
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

from oracle_base import fnv1a, signs, splitmix64, uniform, MASK

VOCABULARY, HIDDEN, FEED_FORWARD, HEADS, KEY_VALUE_HEADS, HEAD_SIZE, BLOCKS = 96, 32, 64, 4, 2, 8, 2
RANK, ALPHA, STEPS, BATCH, LEARNING_RATE, B_BOUND = 4, 8, 5, 3, 1e-2, 0.1
SEED_ADAPTER, SEED_SIGNS, PROJECTIONS = 1, 2, 4
END, PAD = 2, 1
MODULES = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
           "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
           "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
RUNS = {
    "dpo": dict(objective="dpo", beta=0.1, continued=False),
    "dpo-continued": dict(objective="dpo", beta=0.3, continued=True),
    "orpo": dict(objective="orpo", beta=0.1, continued=False),
}


def short(value):
    return float(f"{float(value):.7g}")


def gguf_name(name):
    """The tensor's name in a GGUF file, of its name in transformers."""
    fixed = {"model.embed_tokens.weight": "token_embd.weight", "lm_head.weight": "output.weight",
             "model.norm.weight": "output_norm.weight"}
    if name in fixed:
        return fixed[name]
    block, module = name.removeprefix("model.layers.").removesuffix(".weight").split(".", 1)
    return next(f"blk.{block}.{own}.weight" for own, other in MODULES.items() if other == module)


def make():
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=HIDDEN, intermediate_size=FEED_FORWARD, num_hidden_layers=BLOCKS,
        num_attention_heads=HEADS, num_key_value_heads=KEY_VALUE_HEADS, head_dim=HEAD_SIZE,
        max_position_embeddings=128, rms_norm_eps=1e-5, tie_word_embeddings=False, bos_token_id=None,
        eos_token_id=END, pad_token_id=PAD, attn_implementation="eager")).float()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            shape = tuple(parameter.shape)
            if parameter.dim() == 1:
                parameter.copy_(1 + uniform(gguf_name(name), 0, shape, 0.25))
                continue
            values = uniform(gguf_name(name), 0, shape, 2 / math.sqrt(HIDDEN))
            if "q_proj" in name or "k_proj" in name:
                heads = shape[0] // HEAD_SIZE
                values = values.view(heads, HEAD_SIZE // 2, 2, shape[1]).swapaxes(1, 2).reshape(shape)
            parameter.copy_(values)
    return model


def trained(model):
    """PEFT's saved names, sorted, with their parameters."""
    named = {name.replace(".default", ""): p for name, p in model.named_parameters() if p.requires_grad}
    return dict(sorted(named.items()))


def initialise(model, continued):
    with torch.no_grad():
        for name, parameter in trained(model).items():
            shape = tuple(parameter.shape)
            bound = 1 / math.sqrt(shape[1]) if "lora_A" in name else B_BOUND if continued else 0.0
            parameter.copy_(uniform(name, SEED_ADAPTER, shape, bound))


def tokenizer():
    words = [f"w{index}" for index in range(VOCABULARY)]
    words[END], words[PAD] = "</s>", "<pad>"
    made = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="w0"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="</s>", pad_token="<pad>", unk_token="w0")


def text(name, count):
    draws = splitmix64(fnv1a(name) & MASK, count)
    return " ".join(f"w{3 + int(draw % (VOCABULARY - 3))}" for draw in draws.tolist())


def rows():
    """Answers of different lengths after prompts of different lengths."""
    return Dataset.from_list([
        {"prompt": text(f"prompt {index}", 3 + index % 5 * 3) + " ",
         "chosen": text(f"chosen {index}", 2 + index % 4 * 3), "rejected": text(f"rejected {index}", 1 + index % 7 * 2)}
        for index in range(STEPS * BATCH)])


def pairs(inputs, objective):
    """(prompt, chosen, rejected) of each pair of a batch that TRL collated."""
    if objective == "dpo":
        ids, attention, mask = inputs["input_ids"], inputs["attention_mask"], inputs["completion_mask"]
        count = ids.shape[0] // 2
        halves = [[(ids[i], attention[i], mask[i]) for i in range(start, start + count)] for start in (0, count)]
    else:
        halves = [[(ids, attention, labels != -100) for ids, attention, labels in zip(
            inputs[f"{side}_input_ids"], inputs[f"{side}_attention_mask"], inputs[f"{side}_labels"])]
            for side in ("chosen", "rejected")]
    result = []
    for chosen, rejected in zip(*halves):
        pair = {"prompt": chosen[0][(chosen[1] == 1) & (chosen[2] == 0)].tolist()}
        assert pair["prompt"] == rejected[0][(rejected[1] == 1) & (rejected[2] == 0)].tolist()
        for name, (ids, _, mask) in (("chosen", chosen), ("rejected", rejected)):
            pair[name] = ids[mask == 1].tolist()
            assert pair[name][-1] == END
        result.append(pair)
    return result


def summary(name, gradient):
    flat = gradient.flatten().double().numpy()
    products = [flat @ signs(name, SEED_SIGNS + (index << 32), flat.size) for index in range(PROJECTIONS)]
    return [short(math.sqrt(flat @ flat))] + [short(product) for product in products]


def run(objective, beta, continued):
    steps = []

    class Gradients(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, model=None, **others):
            steps[-1]["gradients"] = {name: summary(name, p.grad) for name, p in trained(model).items()}

    base, config = (DPOTrainer, DPOConfig) if objective == "dpo" else (ORPOTrainer, ORPOConfig)

    class Recorder(base):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            loss = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
            stored = self._metrics["train"] if objective == "dpo" else self._stored_metrics["train"]
            names = ["rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins", "logps/chosen",
                     "logps/rejected"]
            names += ["nll_loss", "log_odds_ratio", "log_odds_chosen"] if objective == "orpo" else []
            steps.append({
                "loss": short(loss.detach()), "pairs": pairs(inputs, objective),
                "metrics": {name: short(stored[name][-1]) for name in names}})
            return loss

    lora = LoraConfig(r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(make(), lora)
    initialise(model, continued)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Recorder(
            model=model, processing_class=tokenizer(), train_dataset=rows(), callbacks=[Gradients()],
            args=config(
                output_dir=folder, beta=beta, per_device_train_batch_size=BATCH, max_steps=STEPS, max_length=128,
                learning_rate=LEARNING_RATE, lr_scheduler_type="constant", weight_decay=0.0, max_grad_norm=0.0,
                bf16=False, use_cpu=True, gradient_checkpointing=False, report_to="none", save_strategy="no",
                logging_steps=1000, seed=0, disable_tqdm=True))
        trainer.train()
    return steps


def layout(runs):
    """One line per step's data and per tensor, so that a changed golden can be read as a diff."""
    compact = lambda value: json.dumps(value, separators=(",", ":"))
    blocks = []
    for name, steps in runs.items():
        lines = []
        for step in steps:
            gradients = step.pop("gradients")
            body = ",\n".join(f"{json.dumps(key)}:{compact(value)}" for key, value in gradients.items())
            lines.append(f'{compact(step)[:-1]},"gradients":{{\n{body}}}}}')
        head = {"objective": RUNS[name]["objective"], "beta": RUNS[name]["beta"],
                "bBound": B_BOUND if RUNS[name]["continued"] else 0}
        blocks.append(f'{json.dumps(name)}: {compact(head)[:-1]},"steps":[\n' + ",\n".join(lines) + "]}")
    head = {"madeBy": "Scripts/preference_golden.py", "trl": trl.__version__, "torch": torch.__version__,
            "rank": RANK, "alpha": ALPHA, "learningRate": LEARNING_RATE, "seed": SEED_ADAPTER, "signs": SEED_SIGNS}
    return f'{json.dumps(head)[:-1]},\n"runs": {{\n' + ",\n".join(blocks) + "\n}}\n"


def main():
    torch.set_num_threads(2)
    runs = {}
    for name, options in RUNS.items():
        torch.manual_seed(0)
        runs[name] = run(**options)
        for step in runs[name]:
            norm = math.sqrt(sum(values[0] ** 2 for values in step["gradients"].values()))
            print(name, step["loss"], f"{norm:.5g}", step["metrics"], flush=True)
    with open(sys.argv[1], "w", encoding="utf-8", newline="\n") as file:
        file.write(layout(runs))


if __name__ == "__main__":
    main()
