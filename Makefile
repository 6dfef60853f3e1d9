# make help lists the targets. Settings, each as make NAME=value target:
#   PYTHON   the Python 3.10 to 3.13 to set up .venv with (default: the first that fits)
#   VENV     the folder to set up, such as .venv-3.12 for one beside .venv with another Python
#   GPU      1 adds NVIDIA's CUDA 12 and cuDNN 9 libraries to .venv (Linux x86_64)
#   EPOCHS   passes over the pictures in the quickstart
#   WORKERS  processes that share the tests, such as one for each core; 0: make's own alone
#   ARGS     more arguments for pytest, such as ARGS="tests/dataset/sources -k difficult"
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help venv quickstart pictures test quick check clean stale

PYTHON ?=
GPU ?=
EPOCHS ?= 12
WORKERS ?= 2
ARGS ?=
VENV := .venv
PY := $(VENV)/bin/python
# a stale one is removed, so it must not be a folder of anything else
ifneq ($(filter-out .venv%,$(VENV))$(findstring /,$(VENV)),)
$(error VENV=$(VENV): must be a folder here whose name begins with .venv, such as .venv-3.12)
endif

# What is installed in .venv. Each is written last, so a .venv without them is unfinished and is made anew.
RUN := $(VENV)/.installed-run
CUDA := $(VENV)/.installed-gpu
DEV := $(VENV)/.installed-dev

# .venv is stale where its Python has gone, or where another one is asked for than it was made with.
MADE_WITH := $(shell [ -x $(PY) ] && cat $(VENV)/.python 2>/dev/null)
STALE := $(if $(MADE_WITH),$(if $(PYTHON),$(if $(filter-out $(MADE_WITH),$(PYTHON)),stale)),stale)

# Installs exactly the listed versions, shows one line for each, and checks that together they are complete.
define install
@set -o pipefail; \
	PYTHONUNBUFFERED=1 $(PY) -m pip install --no-deps --disable-pip-version-check --progress-bar off -r $(1) | \
	while read -r word what rest; do case $$word in \
		Collecting | Processing) echo "  $$(basename "$$what")" ;; \
		Installing) echo "  installing, a minute or so ..." ;; \
	esac; done
@$(PY) -m pip check
@touch $@
endef

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' Makefile
	@echo "A Python 3.10 to 3.13 is found by itself; make PYTHON=/path/to/python3.12 TARGET takes another one."

venv: $(RUN) $(if $(GPU),$(CUDA)) ## set up .venv for running (GPU=1: with CUDA libraries)

$(RUN): requirements.lock $(STALE)
	@python=$$(sh utility/startup/find_python.sh '$(PYTHON)') && rm -rf $(VENV) && \
		echo "Setting up $(VENV) with $$python: about 700 MB to fetch, 2.3 GB on disk." && "$$python" -m venv $(VENV)
	@echo '$(or $(PYTHON),any)' > $(VENV)/.python
	$(call install,requirements.lock)

$(CUDA): requirements-gpu.txt $(RUN)
	$(call install,requirements-gpu.txt)

$(DEV): requirements-dev.txt requirements-export.txt requirements-video.txt $(RUN)
	$(call install,requirements-export.txt -r requirements-video.txt -r requirements-dev.txt)

quickstart: venv ## sample set, convert, train, evaluate, score and draw, in quickstart/
	rm -rf quickstart
	$(PY) dataset/make_sample_voc.py --output_directory=quickstart/VOC --num_train=1200 --num_test=100
	$(PY) dataset/convert_tfrecords.py --dataset_directory=quickstart/VOC \
		--labels_file=quickstart/VOC/labels.txt --output_directory=quickstart/tfrecords
	$(PY) train_ssd.py --data_dir=quickstart/tfrecords --model_dir=quickstart/logs \
		--backbone=mobilenet_v1 --depth_multiplier=0.25 --batch_size=8 --train_epochs=$(EPOCHS) --learning_rate=0.05 \
		--noaugment --neg_threshold=0.4 --log_every_n_steps=100 --eval_every_steps=450
	$(PY) eval_ssd.py --data_dir=quickstart/tfrecords --model_dir=quickstart/logs
	$(PY) voc_eval.py --dataset_directory=quickstart/VOC --pred_dir=quickstart/logs/predict
	$(PY) simple_ssd_demo.py --checkpoint_path=quickstart/logs \
		--input=quickstart/VOC/VOC2007TEST/JPEGImages --output=quickstart/drawn --select_threshold=0.5
	@printf '%s\n' "" "Done. Everything is in quickstart/:" \
		"  VOC/           the sample pictures and their annotations, in the layout of PASCAL VOC" \
		"  tfrecords/     the same as TFRecords, with labels.txt and dataset.json" \
		"  logs/          checkpoints, summaries, detections; curves.png: how it learnt; first_batch.jpg: from what;" \
		"                 predict/eval_output/report.html: what it gets wrong" \
		"  drawn/         pictures with the detections drawn in" \
		"Your own pictures: see README.md."

pictures: quickstart ## the quickstart, and the pictures of README.md from it, in demo/shown/ (needs Chromium)
	$(PY) -m tests.readme_pictures quickstart demo/shown

# the tests of a file stay together, for they share what takes long to make
test: venv $(DEV) ## run the tests
	$(PY) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(SELECTION) $(ARGS)

QUICK := training or evaluation_writes or demo_draws or all_kinds or other_formats or interrupted or estimator_compat
quick: SELECTION := tests/test_scripts.py tests/net/test_export.py tests/utility/startup/test_estimator_compat.py \
	tests/dataset/conversion tests/dataset/test_convert_tfrecords.py -k "$(QUICK)"
quick: test ## run the tests of converting, training, resuming, evaluating, drawing and exporting alone

check: $(DEV) ## lint, formatting and types
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy .

clean: ## remove quickstart/ and all caches; .venv, logs/ and model/ stay
	rm -rf quickstart .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name '.venv*' -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
