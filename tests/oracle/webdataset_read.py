"""Reads a shard folder with Python's webdataset, as its users do. Run by hand:

    python tests/oracle/webdataset_read.py SHARDS

Needs webdataset and soundfile. Every sample of index.json must come, in its order, under its percent-encoded id, with
the line that samples.jsonl.zst has for it and with audio of the length that the index says.
"""

import glob
import io
import json
import subprocess
import sys
import urllib.parse

import soundfile
import webdataset


def main():
    folder = sys.argv[1]
    index = json.load(open(f"{folder}/index.json"))
    lines = subprocess.run(["zstd", "-dcq", f"{folder}/samples.jsonl.zst"], check=True, capture_output=True).stdout
    expected = [json.loads(line) for line in lines.splitlines()]
    urls = [f"pipe:zstd -dcq {path}" for path in sorted(glob.glob(f"{folder}/*.tar.zst"))]
    count = seconds = 0
    for sample in webdataset.WebDataset(urls, shardshuffle=False):
        line, samples = expected[count], index["samples"][count][3]
        audio, rate = soundfile.read(io.BytesIO(sample["flac"]))
        assert urllib.parse.unquote(sample["__key__"]) == line["id"], (sample["__key__"], line["id"])
        assert json.loads(sample["json"]) == line, line["id"]
        assert len(audio) == samples and rate == index["rate"], line["id"]
        seconds += samples / rate
        count += 1
    assert count == len(expected) == len(index["samples"]), (count, len(expected))
    print(f"{count} samples in {len(urls)} shards, {seconds / 3600:.2f} hours: all as the index says")


if __name__ == "__main__":
    main()
