"""Stands for kubectl, helm, kind, docker and make: keeps a small world in a file, records each call, fails where told.

Called as: fake_program.py <name> <arguments>. The world is the JSON file that FAKE_WORLD names; calls are appended to
the file beside it.
"""

import fcntl
import json
import os
import re
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def main() -> int:
    name, arguments = sys.argv[1], sys.argv[2:]
    path = Path(os.environ["FAKE_WORLD"])
    stdin = sys.stdin.read() if "-" in arguments else ""
    line = " ".join([name, *arguments])
    call = json.dumps({"line": line, "stdin": stdin, "pid": os.getpid()}) + "\n"
    with path.with_suffix(".calls").open("ab", buffering=0) as file:
        # One write, which a reader sees whole or not at all on a local disk: others may append, or read, meanwhile.
        file.write(call.encode())
    with path.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        world = json.load(file)
        for rule in world["rules"]:
            if re.search(rule["match"], line):
                if rule.get("hang"):
                    fcntl.flock(file, fcntl.LOCK_UN)
                    sys.stderr.write(rule["error"] + "\n")
                    sys.stderr.flush()
                    time.sleep(120)
                if "until" not in rule or rule["until"] not in world["done"]:
                    sys.stderr.write(rule["error"] + "\n")
                    return rule.get("code", 1)
        out = Fake(world, arguments, stdin, line).answer(name)
        world["done"].append(line)
        file.seek(0)
        file.truncate()
        json.dump(world, file)
    if out is None:
        sys.stderr.write(f"the fake {name} does not know: {line}\n")
        return 64
    sys.stdout.write(out)
    sys.stdout.flush()
    if "port-forward" in arguments:
        time.sleep(120)
    return 0


def read_yaml(text):
    # Only where needed: a call takes half as long without.
    sys.path.append(os.environ["FAKE_LIBRARIES"])
    import yaml

    return list(yaml.safe_load_all(text))


class Fake:
    """One call."""

    def __init__(self, world, arguments, stdin, line):
        self.world, self.stdin, self.line = world, stdin, line
        self.arguments = list(arguments)
        for option in ("--context", "--kube-context"):
            if option in self.arguments:
                self.pop(option)

    def pop(self, option):
        """Take an option and its value out."""
        at = self.arguments.index(option)
        value = self.arguments[at + 1]
        del self.arguments[at : at + 2]
        return value

    def answer(self, name):
        return getattr(self, name)()

    def make(self):
        return "built\n"

    def docker(self):
        match self.arguments:
            case ["info", *_]:
                return json.dumps(self.world["docker"])
            case ["image", "inspect", "--format", _, image]:
                return self.world["images"][image] + "\n"
            case ["inspect", *_]:
                return self.world["node"] + "\n"

    def kind(self):
        match self.arguments:
            case ["version"]:
                return "kind v0.33.0 go1.26 linux/amd64\n"
            case ["get", "clusters"]:
                return "\n".join(self.world["clusters"]) + "\n"
            case ["create", "cluster", *_]:
                self.world["clusters"].append("millrace")
                self.world["contexts"].append("kind-millrace")
                return ""
            case ["delete", "cluster", *_]:
                self.world["clusters"].remove("millrace")
                self.world["objects"] = {}
                return ""
            case ["load", "docker-image", *_]:
                return ""

    def helm(self):
        match self.arguments:
            case ["version", *_]:
                return self.world["helm"]
            case ["upgrade", "--install", release, *_]:
                for entry in read_yaml((REPOSITORY / "k8s/releases/releases.yaml").read_text())[0]["releases"]:
                    if entry["name"] == release:
                        brings = entry.get("brings", {})
                        for definition in brings.get("definitions", ()):
                            self.put("customresourcedefinition", "", definition, {})
                        for namespace, names in brings.get("configMaps", {}).items():
                            for each in names:
                                self.put("configmap", namespace, each, {})
                if release == "millrace":
                    self.put("secret", "millrace", "millrace-cluster-ca-cert", {"ca.crt": self.world["ca"]})
                if release == "airflow":
                    self.put("service", "airflow", "airflow-api-server", {})
                return f"Release {release} installed\n"
            case ["uninstall", *_]:
                return ""

    def kubectl(self):  # noqa: PLR0911 - one for each command
        match self.arguments:
            case ["config", "get-contexts", *_]:
                return "\n".join(self.world["contexts"]) + "\n"
            case ["version", "--client", *_]:
                return json.dumps({"clientVersion": {"gitVersion": self.world["kubectl"]}})
            case ["version", *_]:
                return json.dumps({"serverVersion": {"gitVersion": self.world["kubernetes"]}})
            case ["get", *_]:
                return self.get()
            case ["apply" | "create" as verb, *rest]:
                file = rest[-1]
                text = self.stdin if file == "-" else (REPOSITORY / file).read_text()
                for document in read_yaml(text):
                    for each in document["items"] if document["kind"] == "List" else [document]:
                        meta = each["metadata"]
                        place = meta.get("namespace", "")
                        if verb == "create" and self.has(each["kind"].lower(), place, meta["name"]):
                            raise SystemExit(f"{meta['name']} already exists")
                        self.put(each["kind"].lower(), place, meta["name"], data(each))
                return ""
            case ["wait" | "delete" | "rollout" | "patch", *_]:
                return ""
            case ["port-forward", *_]:
                return f"Forwarding from 127.0.0.1:{self.world['airflow_port']} -> 8080\n"

    def get(self):
        place = self.pop("--namespace") if "--namespace" in self.arguments else ""
        output = self.pop("--output")
        if "--field-selector" in self.arguments:
            self.pop("--field-selector")
        words = [each for each in self.arguments[1:] if not each.startswith("--")]
        kind, names = words[0], words[1:]
        if output == "name":
            return "".join(f"{kind}/{name}\n" for name in names if self.has(kind, place, name))
        if names:
            there = self.world["objects"]
            found = [
                {"metadata": {"name": name}, "data": there[f"{kind}|{place}|{name}"]}
                for name in names
                if self.has(kind, place, name)
            ]
            if not found:
                return ""
            return json.dumps(found[0] if len(names) == 1 else {"items": found})
        return json.dumps({"items": self.world["lists"].get(f"{kind}|{place}", [])})

    def has(self, kind, place, name):
        return f"{kind}|{place}|{name}" in self.world["objects"]

    def put(self, kind, place, name, content):
        self.world["objects"][f"{kind}|{place}|{name}"] = content


def data(document):
    import base64

    plain = {key: base64.b64encode(value.encode()).decode() for key, value in document.get("stringData", {}).items()}
    return {**document.get("data", {}), **plain}


if __name__ == "__main__":
    sys.exit(main())
