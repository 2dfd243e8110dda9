"""Notebook, command, onnxruntime and page on the same 240 files, and what they take; writes nbs/page.json.

python nbs/records/page.py RUN

RUN is a folder of cxr_train, and its data set the one it was trained on, named by CXR_DATA (default: the phantoms).
Needs: pip install -e '.[page]' playwright, and a Chromium.
"""
import json, os, shutil, subprocess, sys, tempfile, time
from pathlib import Path
import numpy as np
import onnxruntime
import pandas as pd
import torch
from PIL import Image
from playwright.sync_api import sync_playwright
from cxr_nb.all import find_data, find_films, load_classifier, read_xray, read_image, read_predictions, write_dicom
from cxr_nb.page import export_onnx, write_page

out = Path(__file__).parents[2]/'nbs'/'page.json'

def write_films(films, folder):
    "120 films as they are, 80 as PNG (8 bits, 16 bits, odd sizes, EXIF), and 40 as DICOM (8 bits, a window of 12 bits, signed, MONOCHROME1)"
    r, made = np.random.default_rng(0), []
    for i, f in enumerate(films[:240]):
        grey = read_image(f)
        if i < 120: made.append(Path(shutil.copy(f, folder/f'{i:03d}{f.suffix}'))); continue
        if i >= 200:
            made.append(folder/f'{i:03d}.dcm')
            deep = np.asarray(grey).astype(np.int16)*10
            way = [dict(pixels=np.asarray(grey)), dict(pixels=deep.astype(np.uint16) + 300, WindowCenter=1575.5),
                   dict(pixels=deep - 1500, WindowCenter=-224.5), dict(pixels=(3795 - deep).astype(np.uint16), photometric='MONOCHROME1', WindowCenter=2520.5)][i % 4]
            write_dicom(made[-1], **way, **(dict(bits=12, WindowWidth=2551) if i % 4 else {}))
            continue
        kind, more = 'plain deep odd turned'.split()[i % 4], {}
        if kind == 'deep': grey = Image.fromarray((np.asarray(grey).astype(np.uint16) << 4) + r.integers(0, 16, grey.size[::-1]).astype(np.uint16))
        if kind == 'odd': grey = grey.resize((int(grey.width*r.uniform(.5, 1)), int(grey.height*r.uniform(.7, 1.4))))
        if kind == 'turned':
            grey, exif = grey.rotate(90, expand=True), Image.Exif()
            exif[0x0112] = 6 # to be turned by a quarter to the right
            more = dict(exif=exif)
        made.append(folder/f'{i:03d}-{kind}.png')
        grey.save(made[-1], **more)
    return made

def agreement(way, table, mine, threshold, allowed):
    "Largest difference in probability, and calls that differ away from the threshold"
    judged = mine.probability.notna() & table.probability.notna()
    gap = (table.probability - mine.probability).abs()[judged]
    other = (table.call.values != mine.call.values) & ~((mine.probability - threshold).abs() < .01).values
    return dict(way=way, films=len(mine), refused=int((table.call == 'refused').sum()), largest_difference=round(float(gap.max()), 6), allowed=allowed,
                other_calls=int(other.sum()))

def by_onnx(clf, file, films):
    words, session = None, onnxruntime.InferenceSession(file)
    words = json.loads(session.get_modelmeta().custom_metadata_map['cxr_nb'])
    _, p, s, _ = session.run(None, dict(films=np.stack([read_xray(f, words['size']) for f in films])))
    call = np.where(s > words['guard_limit'], 'refused', np.where(p >= words['threshold'], 'positive', 'negative'))
    return pd.DataFrame(dict(probability=np.where(call == 'refused', np.nan, p), call=call))

def by_page(page, films):
    "Table of the page's answers, and times in ms"
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=shutil.which('chromium'), args=['--no-sandbox'])
        tab, asked = browser.new_page(), []
        tab.on('request', lambda r: asked.append(r.url))
        start = time.perf_counter()
        tab.goto(page.as_uri())
        tab.locator('#status', has_text='Ready').wait_for(timeout=60_000)
        ready = float(tab.locator('#status').get_attribute('data-ms'))
        tab.locator('#choose').set_input_files(str(films[0]))
        tab.locator('#call').wait_for(timeout=60_000)
        first = 1000*(time.perf_counter() - start)
        tab.locator('#choose').set_input_files([str(f) for f in films])
        tab.locator(f'#rows tr:nth-child({len(films) + 1})').wait_for(timeout=300_000, state='attached')
        tab.locator('#status', has_text='Done').wait_for()
        rows = tab.evaluate("[...document.querySelectorAll('#rows tr')].slice(1).map(r => [r.dataset.call, r.dataset.probability, +r.dataset.ms])")
        draw = tab.evaluate("""async () => { const b = document.querySelectorAll('#rows button')[5], t = performance.now(), seen = document.getElementById('name');
            b.click(); while (seen.textContent !== b.textContent) await new Promise(requestAnimationFrame); return performance.now() - t; }""")
        assert asked == [page.as_uri()], asked
        browser.close()
    table = pd.DataFrame(rows, columns=['call', 'probability', 'ms'])
    table['probability'] = pd.to_numeric(table.probability.replace('', None))
    return table, dict(ready=ready, first=first, film=table.ms.median(), draw=draw)

def speed(clf, file, rounds=15):
    "ms per film of PyTorch and onnxruntime on one thread, taken in turn"
    torch.set_num_threads(1)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session, r, found = onnxruntime.InferenceSession(file, options), np.random.default_rng(0), {}
    for bs in (1, 32):
        x = r.integers(0, 256, (bs, clf.size, clf.size)).astype(np.uint8)
        ways = dict(torch=lambda: clf.logits(x), onnxruntime=lambda: session.run(None, dict(films=x)))
        times = {k: [] for k in ways}
        for i in range(rounds + 2):
            for k, f in ways.items():
                start = time.perf_counter(); f()
                if i >= 2: times[k].append(1000*(time.perf_counter() - start)/bs)
        for k in ways: found[f'{k}, batch {bs}: ms a film'] = round(float(np.median(times[k])), 2)
        found[f'onnxruntime, batch {bs}: times as fast as PyTorch'] = round(float(np.median(np.divide(times['torch'], times['onnxruntime']))), 2)
    return found

if __name__ == '__main__':
    run = Path(sys.argv[1])
    clf = load_classifier(run)
    preds = read_predictions(run, clf.positive)
    tests = find_films(find_data(), 'test')
    with tempfile.TemporaryDirectory() as tmp:
        tmp = Path(tmp)
        (tmp/'films').mkdir()
        films = write_films([tests[i] for i in np.random.default_rng(1).permutation(len(tests))], tmp/'films')
        mine = clf.predict(films)
        subprocess.run(['cxr_predict', str(run), str(tmp/'films'), '--out', str(tmp/'answers.csv')], stdout=subprocess.DEVNULL) # 1: some unreadable
        command = pd.read_csv(tmp/'answers.csv').set_index('file').loc[[str(f) for f in films]].reset_index()
        file = export_onnx(clf, tmp/'model.onnx', preds)
        half = export_onnx(clf, tmp/'half.onnx', preds, half=True)
        page = write_page(clf, tmp/'page.html', preds)
        browser, times = by_page(page, films)
        png, dicom = [np.array([f.suffix == s for f in films]) for s in ('.png', '.dcm')]
        parts = [('command', command, slice(None), 1e-3), ('onnxruntime', by_onnx(clf, file, films), slice(None), 1e-3),
                 ('onnxruntime, half precision', by_onnx(clf, half, films), slice(None), .01), ('page, PNG', browser, png, .01), ('page, JPEG', browser, ~png & ~dicom, .01),
                 ('page, DICOM', browser, dicom, .01)]
        reset = lambda t, which: t[which].reset_index(drop=True)
        rows = [agreement(way, reset(t, which), reset(mine, which), clf.point.threshold, allowed) for way, t, which, allowed in parts]
        measured = {'ONNX file: MB': round(file.stat().st_size/1e6, 1), 'page: MB': round(page.stat().st_size/1e6, 1),
                    'page, opened until ready: s': round(times['ready']/1000, 2), 'page, opened until first answer: s': round(times['first']/1000, 2),
                    'page, further film with its map: ms': round(times['film']), 'page, film and map drawn again: ms': round(times['draw']), **speed(clf, file)}
    found = dict(run=clf.about['id'], data=clf.about['data']['name'].split('-')[0], size=clf.size, networks=len(clf.members), mirror=clf.flip_tta,
                 cores=os.cpu_count(), load=round(os.getloadavg()[0], 1), agreement=rows, sizes_and_times=measured)
    out.write_text(json.dumps(found, indent=1) + '\n')
    print(json.dumps(found, indent=1))
