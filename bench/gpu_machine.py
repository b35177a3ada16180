"""Which GPU, at which clocks: what nvidia-smi says once, and all along while something is measured."""
import atexit
import datetime
import os
import platform
import shutil
import statistics
import subprocess
import threading
import time

FACTS = "name,driver_version,memory.total,clocks.max.sm,clocks.max.memory,power.limit"


def facts(device="cuda"):
    """What a result file says about the machine and the software."""
    found = {"date": str(datetime.date.today()), "python": platform.python_version(), "cores": cores()}
    if device.startswith("cuda") and shutil.which("nvidia-smi"):
        done = subprocess.run(["nvidia-smi", f"--query-gpu={FACTS}", "--format=csv,noheader"], capture_output=True, text=True)
        found.update(zip(FACTS.split(","), [v.strip() for v in done.stdout.strip().split("\n")[0].split(",")]))
    for package in ("torch", "transformers"):
        try:
            module = __import__(package)
            found[package] = module.__version__
            if package == "torch":
                found["cuda"] = module.version.cuda
        except ImportError:
            continue
    return found


def cores():
    return len(os.sched_getaffinity(0))


class Watch:
    """Samples the first GPU's clock and power once a second; `between` gives their medians over a stretch of time."""

    def __init__(self, device="cuda"):
        self.samples, self.process = [], None
        if device.startswith("cuda") and shutil.which("nvidia-smi"):
            self.process = subprocess.Popen(
                ["nvidia-smi", "-i", "0", "--query-gpu=clocks.sm,power.draw", "--format=csv,noheader,nounits", "-lms", "1000"],
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            atexit.register(self.stop)
            threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            try:
                clock, power = (float(v) for v in line.split(","))
            except ValueError:
                continue
            self.samples.append((time.perf_counter(), clock, power))

    def between(self, begin, end):
        """{"sm_mhz", "watts"}: medians of the samples from `begin` to `end` (perf_counter), {} where there is none."""
        inside = [s for s in list(self.samples) if begin <= s[0] <= end]
        if not inside:
            return {}
        return {"sm_mhz": statistics.median(s[1] for s in inside), "watts": statistics.median(s[2] for s in inside)}

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait()
