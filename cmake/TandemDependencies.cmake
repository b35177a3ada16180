# What the build takes from the system. PyPI's C++ libraries live in .venv (see tools/setup.sh).
find_package(Threads REQUIRED)
