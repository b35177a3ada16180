"""What lies in deploy/ is true of the program: it parses, its flags, routes and metrics exist."""
import configparser
import json
import re
import subprocess
import sys

import pytest
import yaml
from served import BINARY, ROOT, Served, picture



DEPLOY = ROOT / "deploy"
# Only where there is a GPU, or a key file, are these there.
CONDITIONAL = re.compile(r"tandem_(gpu|key)_")


@pytest.fixture(scope="module")
def served():
    with Served() as server:
        server.embed(["a text"])
        server.post("/classify", picture(), {"Content-Type": "image/png"})
        yield server


@pytest.fixture(scope="module")
def metrics(served):
    """Names of series → their label names."""
    out = {}
    for line in served.get("/metrics").body.decode().splitlines():
        if not line.startswith("#"):
            name, labels = re.match(r"([a-z_A-Z0-9:]+)(?:\{(.*)\})? ", line).groups()
            out.setdefault(name, set()).update(re.findall(r'(\w+)="', labels or ""))
    return out


def in_source(name):
    return f'"{name}"' in (ROOT / "src/telemetry/metrics.cc").read_text()


def documents(name):
    return list(yaml.safe_load_all((DEPLOY / "kubernetes" / name).read_text()))


def flags_of_serve():
    text = subprocess.run([BINARY, "serve", "--help"], capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"--[a-z][a-z-]+", text))


def test_the_board_is_what_its_script_writes():
    subprocess.run([sys.executable, DEPLOY / "make_dashboard.py", "--check"], check=True)


def test_the_board_asks_for_metrics_that_there_are(metrics):
    board = json.loads((DEPLOY / "grafana.json").read_text())
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    assert len(queries) > 20 and len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    asked = set()
    for query in queries:
        assert query.count("(") == query.count(")") and query.count("{") == query.count("}"), query
        names = re.findall(r"\b((?:tandem|http|process)_\w+)\{", query)
        assert names, query
        for name in names:
            if CONDITIONAL.match(name):
                assert in_source(name), name
            else:
                assert name in metrics, f"{name} of {query} is no metric"
        for by in re.findall(r"by \(([^)]*)\)", query):
            for label in by.split(", "):
                assert label in ("instance",) or any(label in metrics.get(n, {"gpu", "key"}) for n in names), (label, query)
        asked.update(names)
    for stage in ("queue", "decode", "resize", "copy", "compute"):
        assert f"tandem_{stage}_seconds_bucket" in asked


def test_the_documented_metrics_are_those_of_the_server(metrics):
    page = (ROOT / "docs/operation.md").read_text()
    families = {re.sub(r"_(bucket|sum|count)$", "", name) if re.sub(r"_(bucket|sum|count)$", "", name) + "_bucket" in metrics
                else name for name in metrics}
    documented = set(re.findall(r"`((?:tandem|process|http|te|nv)_\w+)`", page))
    for name in documented - families:
        assert (CONDITIONAL.match(name) or name.startswith(("nv_gpu", "nv_energy"))) and in_source(name), f"{name} is no metric"
    missing = {name for name in families if name not in documented}
    assert missing <= {"te_request_failure"}, missing


def test_kubernetes_probes_drain_and_scale_on_what_there_is(served, metrics):
    objects = {one["kind"]: one for one in documents("tandem.yaml") + documents("autoscaling.yaml")}
    assert set(objects) == {"Deployment", "Service", "PodDisruptionBudget", "HorizontalPodAutoscaler"}
    pod = objects["Deployment"]["spec"]["template"]
    labels = pod["metadata"]["labels"]
    for selector in (objects["Deployment"]["spec"]["selector"]["matchLabels"], objects["Service"]["spec"]["selector"],
                     objects["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"]):
        assert selector.items() <= labels.items()
    container = pod["spec"]["containers"][0]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
        probe = container[kind]["httpGet"]
        assert served.get(probe["path"]).status == 200 and probe["port"] in ports
    assert container["args"][0] == "serve" and {a for a in container["args"] if a.startswith("--")} <= flags_of_serve()
    args = dict(zip(container["args"], container["args"][1:]))
    assert int(args["--port"]) == ports["http"] == int(pod["metadata"]["annotations"]["prometheus.io/port"])
    assert pod["spec"]["terminationGracePeriodSeconds"] > int(args["--drain-seconds"]) + 5
    assert served.get(pod["metadata"]["annotations"]["prometheus.io/path"]).status == 200
    scaler = objects["HorizontalPodAutoscaler"]["spec"]
    assert scaler["scaleTargetRef"]["name"] == objects["Deployment"]["metadata"]["name"]
    name = scaler["metrics"][0]["pods"]["metric"]["name"]
    assert name in metrics
    rule = documents("adapter-rule.yaml")[0]["rules"]["custom"][0]
    assert rule["name"]["as"] == name and rule["seriesQuery"].startswith(name + "{")


def test_the_unit_names_what_there_is():
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str
    unit.read_string((DEPLOY / "tandem.service").read_text())
    command = unit["Service"]["ExecStart"].split()
    assert command[:2] == ["/usr/local/bin/tandem", "serve"]
    assert {word for word in command if word.startswith("--")} <= flags_of_serve()
    assert int(unit["Service"]["TimeoutStopSec"]) > 30
    assert unit["Service"]["ExecReload"].endswith("-HUP $MAINPID")
    assert unit["Service"]["LogsDirectory"] in command[-1]


def test_the_image_starts_what_there_is():
    steps = [line.split(None, 1) for line in (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
             if line and not line.startswith("#")]
    known = {"FROM", "RUN", "WORKDIR", "COPY", "ENV", "USER", "EXPOSE", "HEALTHCHECK", "STOPSIGNAL", "ENTRYPOINT", "CMD"}
    assert {step for step, _ in steps} <= known
    assert json.loads(dict(steps)["ENTRYPOINT"]) + json.loads(dict(steps)["CMD"]) == ["tandem", "serve"]
    variables = re.findall(r"TANDEM_([A-Z_]+)=", dict(steps)["ENV"])
    assert variables and {"--" + v.lower().replace("_", "-") for v in variables} <= flags_of_serve()
    targets = (ROOT / "Makefile").read_text()
    for target in re.findall(r"make (\w+)", " ".join(rest for step, rest in steps if step == "RUN" and "apt-get" not in rest)):
        assert re.search(rf"^{target}:", targets, re.M), target
