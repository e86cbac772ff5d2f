#!/usr/bin/env bash
# From nothing to heatmaps in minutes: writes the digits data set, trains on it, evaluates, and draws
# what the model looked at. What is already there is not made again.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh" requirements.txt

runs=experiments/mlic_digits
pointer=$runs/demo.txt # the experiment that an earlier demo trained

if [ -f data/digits/train.txt ]; then
  echo "data/digits is there"
else
  python scripts/digits.py
fi

experiment=$(cat "$pointer" 2>/dev/null || true)
if [ -n "$experiment" ] && [ -f "$experiment/checkpoints/best_ema_model.pth" ]; then
  echo "$experiment is trained"
else
  python train.py --data digits --arch resnet10t --weights none --embed-type random \
    --img-size 80 --output-stride 16 --augment none --pos --lamda 0.4 \
    --lr 4e-4 --batch-size 16 --max-epochs 4 --ema-decay 0.98
  experiment=$(ls -td "$runs"/exp* | head -n 1)
  echo "$experiment" >"$pointer"
fi

[ -f "$experiment/results.json" ] || python evaluate.py --exp-dir "$experiment"
[ -f "$experiment/visualization/index.html" ] || python infer.py --exp-dir "$experiment" --limit 24

python - "$experiment" <<'PYTHON'
import json
import sys

results = json.load(open(f"{sys.argv[1]}/results.json"))
print()
print(f"mAP               {results['mAP']:.4f}")
print(f"pointing accuracy {results['pointing_accuracy']:.4f}")
print(f"energy in box     {results['energy_in_box']:.4f}")
print(f"heatmaps          {sys.argv[1]}/visualization/index.html")
PYTHON
