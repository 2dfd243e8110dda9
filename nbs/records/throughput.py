"""How long do answers for a thousand X-rays take, beside a plain loop over the exported ONNX file? Writes throughput.json, for lesson 97.

python nbs/records/throughput.py RUN FOLDER     on a computer with nothing else to do; needs: pip install -e '.[page]'

The loop reads a file with Pillow, squeezes it and asks onnxruntime, one X-ray after the other, with two threads. Both give the same
answers, with the mirror image and the input check. Three rounds, in turn; seconds without the start of Python.
"""
import json, subprocess, sys, tempfile, time
from pathlib import Path
import numpy as np
import onnxruntime
import torch
from PIL import Image
from cxr_nb.classifier import load_classifier
from cxr_nb.dataset import read_dataset
from cxr_nb.page import export_onnx
from cxr_nb.run import environment

N, ROUNDS, THREADS = 1000, 3, 2

def loop(session, files, size):
    "Probabilities, the plain way"
    probabilities = []
    for file in files:
        with Image.open(file) as image: square = np.asarray(image.convert('L').resize((size, size), Image.Resampling.BILINEAR))
        probabilities.append(session.run(['probability'], dict(squares=square[None]))[0][0])
    return np.array(probabilities)

def timed(function):
    start = time.perf_counter()
    value = function()
    return value, round(time.perf_counter() - start, 2)

def main(run, folder):
    torch.set_num_threads(THREADS)
    clf = load_classifier(run)
    files = list(read_dataset(folder).path[:N])
    rounds = []
    with tempfile.TemporaryDirectory() as tmp:
        onnx = export_onnx(clf, Path(tmp)/'model.onnx')
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        session = onnxruntime.InferenceSession(str(onnx), options, providers=['CPUExecutionProvider'])
        some = Path(tmp)/'xrays'
        some.mkdir()
        for file in files: (some/f'{file.parent.name}-{file.name}').symlink_to(file.resolve())
        for k in range(ROUNDS):
            plain, loop_seconds = timed(lambda: loop(session, files, clf.size))
            ours, seconds = timed(lambda: clf.predict(files))
            command = ['cxr_predict', str(run), str(some), '--out', f'{tmp}/answers-{k}.csv']
            _, command_seconds = timed(lambda: subprocess.run(command, check=True, capture_output=True))
            rounds.append(dict(loop=loop_seconds, library=seconds, command=command_seconds))
            print(rounds[-1], flush=True)
    apart = float(np.nanmax(np.abs(ours.probability.to_numpy(float) - plain)))
    record = dict(X_rays=len(files), rounds=rounds, largest_difference=round(apart, 5), run=clf.about['id'], threads=THREADS, **environment())
    Path(__file__).with_suffix('.json').write_text(json.dumps(record, indent=1) + '\n', encoding='utf-8')

if __name__ == '__main__': main(*sys.argv[1:])
