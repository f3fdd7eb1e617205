"""How the builders of data sets write their rows."""
import json


def write_rows(directory, split, rows):
    """Writes `rows`, pairs of question and answer, as conversations to `split`.jsonl."""
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / f"{split}.jsonl", "w", encoding="utf-8", newline="\n") as file:
        for question, answer in rows:
            messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
            file.write(json.dumps({"messages": messages}, ensure_ascii=False, separators=(",", ":")) + "\n")
