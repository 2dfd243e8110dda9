"""What the page takes, on a computer with nothing else to do; writes page.json beside itself.

python nbs/records/page.py RUN

RUN is a folder of cxr_train, and its data set the one it was trained on, named by CXR_DATA (default: the phantoms).
Needs: pip install -e '.[page]' playwright, and a Chromium.
"""
import json, os, shutil, sys, tempfile, time
from pathlib import Path
import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright
from cxr_nb.classifier import load_classifier
from cxr_nb.confidence import read_predictions
from cxr_nb.dataset import find_data, read_dataset
from cxr_nb.film import read_image
from cxr_nb.page import export_onnx, write_page

WATCH = """() => { let last = performance.now(); globalThis.longest = 0;
    setInterval(() => { const now = performance.now(); longest = Math.max(longest, now - last); last = now; }, 5); }"""

def opened(browser, page):
    "A fresh tab with the page, ready, and the seconds that took"
    start = time.perf_counter()
    tab = browser.new_context(viewport=dict(width=1400, height=1000)).new_page()
    tab.goto(page.as_uri())
    frame = tab.main_frame.child_frames[0]
    frame.locator('#status', has_text='Ready').wait_for(timeout=120_000)
    return frame, time.perf_counter() - start

def chosen(frame, files):
    frame.locator('#choose').set_input_files([str(f) for f in files])
    frame.locator('#status', has_text='Done').wait_for(timeout=300_000)

def first_answer(browser, page, xray):
    "Seconds from opening until ready, and until the first answer"
    start = time.perf_counter()
    frame, ready = opened(browser, page)
    frame.locator('#choose').set_input_files(str(xray))
    frame.locator('#rows tr').wait_for(timeout=120_000, state='attached')
    first = time.perf_counter() - start
    frame.page.context.close()
    return ready, first

def further(browser, page, xrays):
    "Milliseconds of each X-ray but the first ones"
    frame, _ = opened(browser, page)
    chosen(frame, xrays)
    ms = frame.evaluate("[...document.querySelectorAll('#rows tr')].map(r => +r.dataset.ms)")
    frame.page.context.close()
    return ms[5:]

def freeze(browser, page, file):
    "Milliseconds that the page stands still at most while it reads and shows a large X-ray, and seconds until its answer"
    frame, _ = opened(browser, page)
    frame.evaluate(WATCH)
    start = time.perf_counter()
    chosen(frame, [file])
    took = time.perf_counter() - start
    frame.wait_for_function("parseInt(document.getElementById('window-shown').textContent) < 20", timeout=60_000)
    frame.locator('#view').hover()
    for _ in range(4): frame.page.mouse.wheel(0, -400)
    frame.page.mouse.down()
    frame.page.mouse.move(500, 500, steps=10)
    frame.page.mouse.up()
    longest = frame.evaluate('longest')
    frame.page.context.close()
    return longest, took

if __name__ == '__main__':
    run = Path(sys.argv[1])
    clf = load_classifier(run)
    tests = read_dataset(find_data()).query("split == 'test'").path.tolist()
    with tempfile.TemporaryDirectory() as tmp, sync_playwright() as p:
        tmp = Path(tmp)
        small = []
        for i, f in enumerate(tests[:60]):
            small.append(tmp/f'{i}.jpg')
            read_image(f).resize((224, 224), Image.Resampling.BILINEAR).save(small[-1], quality=90)
        whole = read_image(tests[0]).resize((7300, 5500))
        whole.save(tmp/'large.jpg', quality=80)
        whole.save(tmp/'large.png', compress_level=1)
        model = export_onnx(clf, tmp/'model.onnx')
        page = write_page(clf, tmp/'page.html', read_predictions(run, clf.positive))
        browser = p.chromium.launch(executable_path=shutil.which('chromium'), args=['--no-sandbox'])
        load = os.getloadavg()[0]
        opening = np.median([first_answer(browser, page, small[0]) for _ in range(5)], 0)
        times = further(browser, page, small)
        large = {kind: np.median([freeze(browser, page, tmp/f'large.{kind}') for _ in range(3)], 0) for kind in ('jpg', 'png')}
        measured = {'ONNX file: MB': round(model.stat().st_size/1e6, 1), 'page: MB': round(page.stat().st_size/1e6, 1),
                    'opened until ready: s': round(opening[0], 2), 'opened until first answer: s': round(opening[1], 2),
                    'further X-ray of 224 px: ms': round(float(np.median(times))),
                    '40 megapixels, JPEG, until the answer: s': round(large['jpg'][1], 1), 'longest freeze with it: ms': round(large['jpg'][0]),
                    '40 megapixels, PNG, until the answer: s': round(large['png'][1], 1), 'longest freeze with that: ms': round(large['png'][0])}
        measured['browser'] = f'Chromium {browser.version}'
        browser.close()
    record = dict(run=clf.about['id'], data=clf.about['data']['name'].split('-')[0], size=clf.size, networks=len(clf.members), flip_tta=clf.flip_tta,
                  cores=os.cpu_count(), load=round(load, 1), sizes_and_times=measured)
    Path(__file__).with_suffix('.json').write_text(json.dumps(record, indent=1) + '\n')
    print(json.dumps(record, indent=1))
