#!/usr/bin/env python3
"""Writes the goldens of the tokenizer tests: lines of mixed text, and a digest of Hugging Face's ids for each.

    pip install tokenizers==0.23.3 gguf==0.19.0
    python3 Scripts/tokenizer_goldens.py --base models/base.bin --output Tests/LoRATextTests/Goldens

`tokenizer-lines.jsonl` has one JSON value per line: a string, or [unit, count] for a unit repeated.
`tokenizer-digests.bin` has one little-endian 32-bit FNV-1a digest of the ids (little-endian 32-bit each) per line, for
each pre-tokenizer in the order of PRE_TOKENIZERS. The vocabulary and the merges are the base's in all four cases: they
have a token for every byte that text with letters can contain, so they show differences in the cutting of words.
"""
import argparse
import json
import random
import struct
from pathlib import Path

import gguf
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

PRE_TOKENIZERS = ["smollm", "gpt-2", "llama-bpe", "qwen2"]

# The patterns as Llama 3 and Qwen 2 publish them in tokenizer.json.
PUBLISHED = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

WORDS = {
    "english": "the of and a to in is you that it he was for on are as with his they at be this have from or one had by "
    "word but not what all were we when your can said there use an each which she do how their if will up other about "
    "out many then them these so some her would make like him into time has look two more write go see number no way "
    "could people my than first water been call who oil its now find long down day did get come made may part light "
    "kitchen bedroom thermostat temperature hallway Tuesday University McDonald iPhone naïve café résumé coöperate "
    "isn't don't we're they've I'm she'll he'd IT'S WE'RE I'LL o'clock rock'n'roll 'tis dogs' it's've",
    "german": "der die das und ist nicht Straße schön für über Größe Mädchen Fußgängerübergang Donaudampfschifffahrt "
    "Wärmepumpe zwölf Übung äußerst Ärger ẞ weiß",
    "french": "le la les être où ça l'été qu'il aujourd'hui cœur naïf garçon élève hôpital Noël à bientôt œuvre",
    "spanish": "el niño mañana ¿cómo está? ¡hola! corazón pingüino año español señor también",
    "polish": "zażółć gęślą jaźń łódź święto źródło książka pięć dziękuję",
    "turkish": "İstanbul ığdır şeker çocuk öğretmen güneş değil IŞIK ılık",
    "vietnamese": "tiếng Việt không người được những một nước đường chúng tôi",
    "russian": "привет мир это не что он на я с как по ёлка объект Москва здравствуйте температура кухня щука",
    "ukrainian": "їжак є ґанок Київ м'ята привіт дякую",
    "greek": "καλημέρα κόσμος είναι και το θερμοκρασία Ὀδυσσεύς ἄνθρωπος ΣΊΣΥΦΟΣ ς",
    "arabic": "مرحبا بالعالم السلام عليكم كتاب مَدْرَسَة لا إله درجة الحرارة ١٢٣ ٤٥٦ ، ؟",
    "hebrew": "שלום עולם בית ספר תּוֹדָה מים אור ״ציטוט״ צה״ל",
    "hindi": "नमस्ते दुनिया हिन्दी में क्षत्रिय ज्ञान श्री पानी १२३ ४५ । है",
    "bengali": "নমস্কার বাংলা ভাষা আমি তুমি ১২৩",
    "tamil": "வணக்கம் தமிழ் மொழி நான் ௧௨",
    "thai": "สวัสดีชาวโลก ภาษาไทย น้ำ อุณหภูมิห้องครัว ๑๒๓ ก็",
    "chinese": "你好 世界 中文 今天天气很好 打开厨房的灯 温度 二十三度 ，。！？ 《红楼梦》 ㈱ 𠮷野家 龍",
    "japanese": "こんにちは 世界 日本語 カタカナ ひらがな ﾊﾝｶｸ ガギグ 東京都 お元気ですか。 「はい」 ー 々",
    "korean": "안녕하세요 세계 한국어 서울 온도 부엌 불을 켜줘 ㅋㅋㅋ 가나다",
    "georgian": "გამარჯობა მსოფლიო საქართველო",
    "armenian": "Բարեւ աշխարհ և",
    "amharic": "ሰላም ዓለም አማርኛ ፩፪፫",
    "khmer": "សួស្តី ពិភពលោក ១២៣",
    "cherokee": "ᎣᏏᏲ ᏣᎳᎩ",
    "mathematics": "∀x∈ℝ ∑ᵢ₌₁ⁿ √2 ≈ 1.414 π≤4 ½ ² ³ ⅓ Ⅷ ① ⓩ 𝒜𝓑 𝟘𝟙 → ⇒ ∅ ∂f/∂x ±5% °C µm ㎏",
}

CODE = """def f(x): return x**2 if x > 0 else -x
for (int i = 0; i < n; ++i) { sum += a[i]; }
\tif err != nil {
\t\treturn nil, fmt.Errorf("read %q: %w", path, err)
    let value = try await store["key", default: []]?.first ?? .none
SELECT * FROM users WHERE id IN (1,2,3) AND name LIKE '%o''brien%';
<div class="a b" id='c'>&nbsp;&#39;</div><!-- end -->
#include <stdio.h>\\n int main(void){return 0;}
{"intent":"HassTurnOn","slots":{"area":"kitchen","brightness":75}}
$ curl -fsSL https://example.com/a_b-c?d=e&f=%20g#h | sh 2>&1
x = "\\u00e9\\x00\\t"; // 0xDEADBEEF 1_000_000 1e-9 .5f
fn main() -> Result<(), Box<dyn Error>> { Ok(()) }
[^\\r\\n\\p{L}]?\\p{L}+|\\s+(?!\\S)
__init__.py::TestCase.test_x[param0-1.5] PASSED [ 42%]
user.name+tag@mail.example.co.uk 192.168.0.1:8080 2026-11-23T14:25:00Z""".split("\n")

EMOJI = (
    "😀 👍🏽 👨‍👩‍👧‍👦 🏳️‍🌈 🇩🇪🇫🇷 ❤️ ☕ 1️⃣ #️⃣ 🧑🏿‍🚀 👩‍❤️‍💋‍👨 🤷‍♀️ 🏴󠁧󠁢󠁥󠁮󠁧󠁿 ✅ ™ © ♥ ⌚️ 🥹 🫠".split(" ")
)
SPACES = [" ", "  ", "   ", "    ", "\t", "\n", "\r\n", "\r", "\n\n", " \n", "\n ", "\t\t", "\u00a0", "\u2003", "\u3000",
          "\u2028", "\u2029", "\u0085", "\u200b", "\u180e", "\ufeff", "\u1680", "\x0b", "\x0c", "\u202f", "\u205f", " " * 17]
MARKS = ["\u0301", "\u0308", "\u0327", "\u0323", "\u20dd", "\u0e31", "\u064e", "\u05b8", "\u093f", "\u3099", "\ufe0f", "\u200d"]
CONTROLS = [chr(c) for c in range(32)] + ["\x7f"] + [chr(c) for c in range(0x80, 0xA0)]
LOOKALIKES = ["<|im_start|", "<|im_end>", "|im_end|>", "<|<|im_end|>|>", "<|im_start|><|im_end|>", "<repo_name", "<file_sep>>",
              "<|endoftext|><|endoftext|>", "<|im_start|>user\n", "<|im_start|>assistant\nOk<|im_end|>\n", " <|im_end|> ",
              "x<|im_end|>y", "<|IM_END|>", "<\u200b|im_end|>", "1<|im_end|>2", "  <gh_stars>  ", "<|im_end|>'s", "é<jupyter_code>é"]
APOSTROPHES = ["'s", "'S", "'ſ", "'t", "'T", "'re", "'RE", "'Re", "'ve", "'m", "'M", "'ll", "'LL", "'lL", "'d", "'D", "'x", "’s",
               " 's", "''s", "'"]
# Letters and numbers younger than Unicode 14, and other characters on which property tables differ.
YOUNG = [0x1C89, 0xA7CB, 0xA7DC, 0x105C0, 0x1138B, 0x11F04, 0x1E4D0, 0x2B739, 0x2EBF0, 0x31350, 0x323AF, 0x10D40, 0x11DE0,
         0x16FF4, 0x1CCF0, 0x1E4F0, 0x1E5F1, 0x378, 0xE000, 0xFFFF, 0x10FFFF, 0xFFFD, 0xFDD0, 0x40000, 0xC0000]


def scalar(rng):
    """A random scalar value: each length of UTF-8 is about equally likely."""
    while True:
        low, high = rng.choice([(0x20, 0x7F), (0x80, 0x800), (0x800, 0x10000), (0x10000, 0x32400), (0xE0000, 0xE01F0)])
        value = rng.randrange(low, high)
        if not 0xD800 <= value < 0xE000:
            return chr(value)


def number(rng):
    digits = "".join(rng.choice("0123456789") for _ in range(rng.randrange(1, 12)))
    return rng.choice([digits, f"{int(digits):,}", "-" + digits, digits + "." + digits[:3], "$" + digits, digits + "%", "0x" + digits])


class Lines:
    def __init__(self, seed, tokens):
        self.rng = random.Random(seed)
        self.tokens = tokens
        self.words = {language: words.split() for language, words in WORDS.items()}

    def language(self):
        words = self.words[self.rng.choice(list(self.words) + ["english"] * 6)]
        text = " ".join(self.rng.choice(words) for _ in range(self.rng.randrange(1, 7)))
        return text + self.rng.choice(["", "", ".", "!", "?", ",", "…", "\n"])

    def joined(self):
        return "".join(self.rng.choice(self.tokens) for _ in range(self.rng.randrange(2, 8)))

    def code(self):
        line = self.rng.choice(CODE)
        start = self.rng.randrange(max(1, len(line) // 2))
        return self.rng.choice(["", "    ", "\t"]) + line[start : start + self.rng.randrange(8, 50)]

    def soup(self):
        """Pieces of every kind, with and without space between them."""
        pieces = [
            lambda: self.rng.choice(self.words[self.rng.choice(list(self.words))]), lambda: number(self.rng),
            lambda: self.rng.choice(EMOJI), lambda: self.rng.choice(SPACES), lambda: self.rng.choice(MARKS),
            lambda: self.rng.choice(CONTROLS), lambda: self.rng.choice(APOSTROPHES), lambda: scalar(self.rng),
            lambda: self.rng.choice("!?.,;:-_/\\|@#$%^&*()[]{}<>~`\"'+="), lambda: chr(self.rng.choice(YOUNG)),
        ]
        return "".join(self.rng.choice(pieces)() for _ in range(self.rng.randrange(1, 9)))

    def whitespace(self):
        runs = (self.rng.choice(SPACES) * self.rng.randrange(1, 4) + self.rng.choice(["", "a", "Zż", "7", "!", "中"])
                for _ in range(self.rng.randrange(1, 7)))
        return "".join(runs)

    def special(self):
        return self.language()[:12] + self.rng.choice(LOOKALIKES) + self.soup()[:8]

    def contraction(self):
        return self.rng.choice(["I", "you", "Ä", "7", " ", "", "!", "\n"]) + self.rng.choice(APOSTROPHES) + self.rng.choice(
            ["", " ", "x", "1", "\n"]) + self.rng.choice(APOSTROPHES)

    def marked(self):
        return "".join(self.rng.choice("aeiouAEIOUnsc ") + self.rng.choice(MARKS) * self.rng.randrange(0, 3)
                       for _ in range(self.rng.randrange(2, 8)))

    def numbers(self):
        return self.rng.choice(["", " ", ",", ", ", "\n"]).join(number(self.rng) for _ in range(self.rng.randrange(1, 5)))

    def long(self):
        unit = self.rng.choice(["a", "ab", "abc", "the", "é", "中文", "!", "=", "-", " ", "\n", "\t", " \n", "0", "12", "👍", "ha",
                                "A", "_", "\u0301", "Donaudampfschiff", "ACGT", "  x", "'s", "\r\n", "Ġ", "\x00", "かな"])
        return [unit, self.rng.choice([30, 100, 257, 1000, 4096])]

    def every(self, count):
        fixed = ["", " ", "\n", "\x00", "a\x00b", "\x04\x06\x13", "a\x04b", "th\x16e", ["x", 20000], ["word", 5000], [" ", 9999]]
        yield from fixed + CONTROLS + EMOJI + SPACES + LOOKALIKES + APOSTROPHES + CODE + [chr(c) + "a" + chr(c) + "1" for c in YOUNG]
        kinds = [self.language] * 8 + [self.joined] * 5 + [self.soup] * 6 + [self.code] * 2 + [self.whitespace] * 2 + [
            self.special] * 2 + [self.contraction, self.marked, self.numbers]
        for _ in range(count - 100):
            yield self.rng.choice(kinds)()
        for _ in range(100):
            yield self.long()


def oracle(name, tokens, types, merges):
    ignores = name == "llama-bpe"
    tokenizer = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges, ignore_merges=ignores))
    if name in ("smollm", "gpt-2"):
        level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        digits = pre_tokenizers.Digits(individual_digits=True)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, level]) if name == "smollm" else level
    else:
        pattern = Regex(PUBLISHED % ("{1,3}" if name == "llama-bpe" else ""))
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Split(pattern, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    if name == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t, k in zip(tokens, types) if k == 3])
    return tokenizer


def digest(ids):
    value = 0x811C9DC5
    for byte in struct.pack(f"<{len(ids)}i", *ids):
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return value


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="models/base.bin")
    parser.add_argument("--output", default="Tests/LoRATextTests/Goldens")
    parser.add_argument("--seed", type=int, default=20261123)
    parser.add_argument("--count", type=int, default=10300, help="lines beside the fixed ones")
    options = parser.parse_args()

    fields = gguf.GGUFReader(options.base).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    types = fields["tokenizer.ggml.token_type"].contents()
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"].contents()]

    plain = oracle("gpt-2", tokens, types, merges)
    decoder = pre_tokenizers.ByteLevel.alphabet()
    readable = [t.replace("Ġ", " ").replace("Ċ", "\n") for t in tokens[17:] if all(c in decoder for c in t)]
    readable = [t for t in readable if t.isascii()]
    lines = list(Lines(options.seed, readable).every(options.count))
    output = Path(options.output)
    with open(output / "tokenizer-lines.jsonl", "w", encoding="utf-8", newline="\n") as file:
        for line in lines:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
    with open(output / "tokenizer-digests.bin", "wb") as file:
        for name in PRE_TOKENIZERS:
            tokenizer = oracle(name, tokens, types, merges) if name != "gpt-2" else plain
            for line in lines:
                text = line if isinstance(line, str) else line[0] * line[1]
                file.write(struct.pack("<I", digest(tokenizer.encode(text, add_special_tokens=False).ids)))
    print(f"{len(lines)} lines")


if __name__ == "__main__":
    main()
