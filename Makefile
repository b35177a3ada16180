# The commands of this project; `make help` lists them. Everything is built by CMake with the presets of
# CMakePresets.json: this file only chains setup, build and run.
PORT ?= 7860
HOST ?= 127.0.0.1
PREFIX ?= /usr/local
FUZZ_SECONDS ?= 120
JOBS ?= $(shell nproc)
# Extra words for the program: make serve ARGS='--model openai/clip-vit-base-patch32'
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev build serve test test-asan test-tsan fuzz tidy format format-check bench gpu-bundle install clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what is missing: Debian packages, .venv
	@tools/setup.sh

setup-dev: ## the same for fuzz, tidy and format
	@tools/setup.sh dev

build/build.ninja: CMakePresets.json | setup
	@cmake --preset release

build: setup build/build.ninja ## build/tandem, and the default model's calibration
	@cmake --build --preset release -j $(JOBS) --target tandem calibration

serve: build ## build, then the web page and the API on http://HOST:PORT (7860)
	@build/tandem serve --host $(HOST) --port $(PORT) $(ARGS)

test: setup build/build.ninja ## build everything, run every test
	@cmake --build --preset release -j $(JOBS)
	@tools/run_tests.sh release

test-asan: setup ## the tests under the address and undefined behaviour sanitizers
	@cmake --preset asan
	@cmake --build --preset asan -j $(JOBS)
	@tools/run_tests.sh asan

# Address randomisation off: the thread sanitizer of GCC 12 cannot map its memory under the larger one of newer kernels.
test-tsan: setup ## the tests under the thread sanitizer, without OpenMP (the reference backend, own kernels)
	@cmake --preset tsan
	@setarch -R cmake --build --preset tsan -j $(JOBS)
	@setarch -R tools/run_tests.sh tsan

fuzz: setup-dev ## every fuzzer for FUZZ_SECONDS (120), JOBS at once, from the seeds in tests/fuzz/seeds
	@cmake --preset fuzz
	@cmake --build --preset fuzz -j $(JOBS)
	@tools/run_fuzzers.sh build-fuzz/fuzz $(FUZZ_SECONDS) $(JOBS)

tidy: setup-dev ## clang-tidy over src/
	@cmake --preset tidy
	@run-clang-tidy-14 -quiet -j $(JOBS) -p build-tidy '$(CURDIR)/src/.*\.cc$$'

format: setup-dev ## rewrite sources as .clang-format says
	@git ls-files -z '*.cc' '*.h' | xargs -0 clang-format-14 -i

format-check: setup-dev ## fail where make format would change something
	@git ls-files -z '*.cc' '*.h' | xargs -0 clang-format-14 --dry-run -Werror

bench: build ## time the engine on this machine; bench/README.md has the peers and the kernels
	@build/tandem bench --model random:ViT-B-32 --what both --batch 32 $(ARGS)

gpu-bundle: setup ## build-gpu-bundle/: program, CUDA library and GPU tests, to be carried to a machine with a GPU
	@cmake --preset gpu-bundle
	@cmake --build --preset gpu-bundle -j $(JOBS)
	@tools/gpu_bundle.sh build-gpu build-gpu-bundle

install: build ## bin/tandem, libtandem and the default model under PREFIX (/usr/local)
	@cmake --build --preset release -j $(JOBS) --target libtandem
	@cmake --install build --prefix $(PREFIX)

clean: ## remove what the commands above built (not .venv)
	rm -rf build build-asan build-tsan build-fuzz build-tidy build-dev build-gpu build-gpu-bundle build-cuda-release
