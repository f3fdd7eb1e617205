#!/usr/bin/env python3
"""Trains DPO and ORPO on made-up preferences and shows how the base and both adapters rank pairs they have not seen.

    python3 Scripts/preference_check.py --base models/base.bin [--lora .build/release/lora] [--keep DIRECTORY]

Every question about a country has a bare answer and a wordy one that says the same. In training and test, which is
preferred depends on how the question is put: "In one word: …" wants the bare one, "Explain: …" the wordy one. So a model
cannot win by length alone. Countries of the test are not trained on. Ends with status 1 unless both adapters rank
more pairs rightly than the base does, token for token, and raise the right answers more on the whole.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

CAPITALS = """France Paris, Germany Berlin, Italy Rome, Spain Madrid, Portugal Lisbon, Poland Warsaw, Austria Vienna,
Hungary Budapest, Greece Athens, Norway Oslo, Sweden Stockholm, Finland Helsinki, Denmark Copenhagen, Ireland Dublin,
Belgium Brussels, Romania Bucharest, Bulgaria Sofia, Croatia Zagreb, Serbia Belgrade, Ukraine Kyiv, Turkey Ankara,
Egypt Cairo, Kenya Nairobi, Ghana Accra, Nigeria Abuja, Senegal Dakar, Morocco Rabat, Tunisia Tunis, Uganda Kampala,
Japan Tokyo, China Beijing, India Delhi, Thailand Bangkok, Vietnam Hanoi, Mongolia Ulaanbaatar, Nepal Kathmandu,
Iran Tehran, Iraq Baghdad, Jordan Amman, Lebanon Beirut, Canada Ottawa, Cuba Havana, Peru Lima, Chile Santiago,
Ecuador Quito, Colombia Bogota, Uruguay Montevideo, Australia Canberra"""
QUESTIONS = ["what is the capital of {}?", "which city is the capital of {}?", "the government of {} sits in which city?"]
WORDY = "The capital of {} is {}. It is where the government of the country has its seat."
VALID, TEST = 6, 12


def write(path, countries):
    with open(path, "w", encoding="utf-8") as file:
        for country, city in countries:
            for question in QUESTIONS:
                answers = city + ".", WORDY.format(country, city)
                for opening, (chosen, rejected) in (("In one word: ", answers), ("Explain: ", answers[::-1])):
                    row = {"prompt": opening + question.format(country), "chosen": chosen, "rejected": rejected}
                    file.write(json.dumps(row) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True)
    parser.add_argument("--lora", default=".build/release/lora")
    parser.add_argument("--keep", help="a directory for data and adapters; a temporary one otherwise")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or temporary
        data = os.path.join(folder, "capitals")
        os.makedirs(data, exist_ok=True)
        countries = [entry.split() for entry in CAPITALS.replace("\n", " ").split(",")]
        write(os.path.join(data, "train.jsonl"), countries[VALID + TEST:])
        write(os.path.join(data, "valid.jsonl"), countries[:VALID])
        write(os.path.join(data, "test.jsonl"), countries[VALID:VALID + TEST])
        adapters = []
        for objective, rate in (("dpo", "2e-4"), ("orpo", "1e-3")):
            adapters.append(os.path.join(folder, f"{objective}.lora"))
            command = [options.lora, "train", "--base", options.base, "--data", data, "--output", adapters[-1],
                       "--objective", objective, "--epochs", "2", "--learning-rate", rate]
            print("$", *command, flush=True)
            subprocess.run(command, check=True)
        command = [options.lora, "eval", "--base", options.base, "--data", data, "--quiet"]
        for adapter in adapters:
            command += ["--adapter", adapter]
        print("$", *command, flush=True)
        subprocess.run(command, check=True)
        report = json.loads(subprocess.run(command + ["--json"], check=True, capture_output=True).stdout)
    base, *trained = report["results"]
    good = all(result["ranking_accuracy"] > base["ranking_accuracy"] and result["reward_margin"] > 0
               for result in trained)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
