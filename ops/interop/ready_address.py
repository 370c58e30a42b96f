"""Prints HOST:PORT of the gateway's MQTT listener: ready_address.py FILE, with the output of `tidegate run --json`.

Prints nothing while the ready line is not there yet."""
import json
import sys

with open(sys.argv[1], encoding="utf-8") as lines:
    for line in lines:
        if line.startswith('{"event":"ready"') and line.endswith("\n"):
            listeners = json.loads(line)["listeners"]
            print(next(each["addr"] for each in listeners if each["protocol"] == "mqtt"))
            break
