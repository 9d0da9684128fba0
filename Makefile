.PHONY: build
build:
	flock .venv/.build.lock .venv/bin/python setup.py -q build_ext --inplace
