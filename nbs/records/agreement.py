"""Python, folder, ONNX file and page on the same 200 made files; writes agreement.json beside itself.

python nbs/records/agreement.py RUN

RUN is a folder of cxr_train, and its data set the one it was trained on, named by CXR_DATA (default: the phantoms).
Needs: pip install -e '.[page]' playwright, and a Chromium.
"""
import json, shutil, sys, tempfile
from pathlib import Path
import numpy as np
import onnxruntime
import pandas as pd
from PIL import Image, ImageOps
from cxr_nb.classifier import load_classifier
from cxr_nb.confidence import read_predictions
from cxr_nb.dataset import find_data, read_dataset
from cxr_nb.film import read_image, read_noted
from cxr_nb.page import export_onnx, write_page
from cxr_nb.phantom import write_dicom
from cxr_nb.scale import predict_folder

CALLS = np.array(['negative', 'positive', 'rejected'])

def deepened(levels, bits):
    "Grey levels 0 to 255 as numbers of more bits"
    return ((levels.astype(np.int64)*(2**bits - 1) + 127)//255).astype(np.uint16)

def hot(numbers, most):
    "One pixel in the middle at the top of the container"
    numbers = numbers.copy()
    numbers[numbers.shape[0]//2, numbers.shape[1]//2] = most
    return numbers

def save(file, im, **how):
    im.save(file, **how)
    return file

def dicom(file, numbers, container=8, bare=False, **tags):
    write_dicom(file, numbers, bits=container, **tags)
    if bare: file.write_bytes(file.read_bytes()[132:])
    return file

def png16(file, numbers): return save(file, Image.fromarray(numbers))

def turned(file, im):
    exif = Image.Exif()
    exif[0x0112] = 6 # to be turned by a quarter to the right
    return save(file, im.rotate(90, expand=True), exif=exif)

def window(bits): return dict(WindowCenter=2**bits/2, WindowWidth=2**bits)

def _kinds():
    "How a file of each kind is made, from its path without a suffix, the grey image and its levels"
    kinds = {
        'JPEG': lambda f, im, g: save(f.with_suffix('.jpg'), im, quality=92),
        'JPEG, colours': lambda f, im, g: save(f.with_suffix('.jpg'), im.convert('RGB'), quality=92),
        'PNG': lambda f, im, g: save(f.with_suffix('.png'), im),
        'PNG, EXIF': lambda f, im, g: turned(f.with_suffix('.png'), im),
        'PNG, odd size': lambda f, im, g: save(f.with_suffix('.png'), im.resize((im.width*2//3, im.height*5//6))),
        'PNG, alpha': lambda f, im, g: save(f.with_suffix('.png'), im.convert('RGBA')),
        'PNG, hot pixel': lambda f, im, g: png16(f.with_suffix('.png'), hot(deepened(g, 12), 65535)),
        'TIFF': lambda f, im, g: save(f.with_suffix('.tif'), Image.fromarray(deepened(g, 16))),
        'TIFF, 12 bits in 16': lambda f, im, g: save(f.with_suffix('.tif'), Image.fromarray(deepened(g, 12))),
        'DICOM': lambda f, im, g: dicom(f.with_suffix('.dcm'), g),
        'DICOM, inverted': lambda f, im, g: dicom(f.with_suffix('.dcm'), 4095 - deepened(g, 12), 12, photometric='MONOCHROME1'),
        'DICOM, no preamble': lambda f, im, g: dicom(f, deepened(g, 12), 16, bare=True),
        'DICOM, hot pixel': lambda f, im, g: dicom(f.with_suffix('.dcm'), hot(deepened(g, 12), 65535), 16),
        'DICOM, window': lambda f, im, g: dicom(f.with_suffix('.dcm'), deepened(g, 12), 16, **window(12)),
        'DICOM, inverted, window': lambda f, im, g: dicom(f.with_suffix('.dcm'), 4095 - deepened(g, 12), 16, photometric='MONOCHROME1', **window(12)),
        'DICOM, signed': lambda f, im, g: dicom(f.with_suffix('.dcm'), deepened(g, 12).astype(np.int16) - 1024, 16, RescaleSlope=1, RescaleIntercept=1024),
        'DICOM, beyond BitsStored': lambda f, im, g: dicom(f.with_suffix('.dcm'), deepened(g, 14), 16, BitsStored=12, HighBit=11),
        'DICOM, marks above BitsStored': lambda f, im, g: dicom(f.with_suffix('.dcm'), deepened(g, 12) | 0xA000, 16, BitsStored=12, HighBit=11),
        'DICOM, senseless window': lambda f, im, g: dicom(f.with_suffix('.dcm'), deepened(g, 12), 16, WindowCenter='', WindowWidth=0),
        'upside down': lambda f, im, g: save(f.with_suffix('.png'), ImageOps.flip(im)),
        'nearly black': lambda f, im, g: save(f.with_suffix('.png'), Image.fromarray(g//16)),
        'no image': lambda f, im, g: (f.with_suffix('.txt').write_text('text'), f.with_suffix('.txt'))[1],
    }
    for bits in (8, 10, 12, 14, 15, 16):
        kinds[f'PNG, {bits} bits in 16'] = lambda f, im, g, bits=bits: png16(f.with_suffix('.png'), deepened(g, bits))
        if bits < 16: kinds[f'DICOM, {bits} bits in 16'] = lambda f, im, g, bits=bits: dicom(f.with_suffix('.dcm'), deepened(g, bits), 16)
    for bits in (10, 12, 14, 16):
        kinds[f'DICOM, {bits} bits'] = lambda f, im, g, bits=bits: dicom(f.with_suffix('.dcm'), deepened(g, bits), bits)
    return kinds

ODD_SIZE = 'PNG, odd size', 'upside down', 'nearly black', 'no image' # they hold another image than the one they were made from

def make_files(
    xrays,   # Paths of X-rays
    folder,  # Where to put the files
    each=6,  # Files of each kind
): # Table with file, kind, and off: how many grey levels Python reads away from the true X-ray (NaN for JPEG and other images)
    "Files of every kind"
    rows = []
    for k, (kind, make) in enumerate(_kinds().items()):
        for i in range(each):
            im = read_image(xrays[(k*each + i) % len(xrays)])
            levels = np.asarray(im)
            file = make(folder/f'{k:02d}-{i}', im, levels)
            known = 'JPEG' not in kind and 'hot' not in kind and kind not in ODD_SIZE
            off = np.abs(np.asarray(read_image(file)).astype(int) - levels).max() if known else np.nan
            rows.append((file, kind, off))
    return pd.DataFrame(rows, columns=['file', 'kind', 'off'])

def by_onnx(
    model, # ONNX file
    files, # Paths
): # Table with probability and call, by onnxruntime alone
    "Answers of the ONNX file: read, squeeze, run"
    session = onnxruntime.InferenceSession(model)
    square = session.get_inputs()[0]
    noted = read_noted(files, square.shape[1])
    table = pd.DataFrame(dict(probability=np.nan, call='rejected'), index=range(len(files)))
    readable = [i for i, (s, _) in enumerate(noted) if s is not None]
    squares = np.stack([noted[i][0] for i in readable])
    probability, call = session.run(['probability', 'call'], {square.name: squares})
    table.loc[readable, 'call'] = CALLS[call]
    table.loc[readable, 'probability'] = np.where(call == 2, np.nan, probability)
    return table

def by_page(
    page,  # HTML file
    files, # Paths
): # Table with probability, call and why, by the page in a browser
    "Answers of the page"
    from playwright.sync_api import sync_playwright
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=shutil.which('chromium'), args=['--no-sandbox'])
        tab = browser.new_page()
        tab.goto(page.as_uri())
        frame = tab.main_frame.child_frames[0]
        frame.locator('#status', has_text='Ready').wait_for(timeout=120_000)
        frame.locator('#choose').set_input_files([str(f) for f in files])
        frame.locator(f'#rows tr:nth-child({len(files)})').wait_for(timeout=600_000, state='attached')
        frame.locator('#status', has_text='Done').wait_for(timeout=60_000)
        rows = frame.evaluate("[...document.querySelectorAll('#rows tr')].map(r => "
                              "[r.dataset.probability, r.dataset.call, r.querySelector('.why').textContent])")
        browser.close()
    table = pd.DataFrame(rows, columns=['probability', 'call', 'why'])
    return table.assign(probability=pd.to_numeric(table.probability.replace('', None)))

def compare(
    mine,  # Answers of Python
    other, # Answers in another way, of the same files
    kinds, # Kind of each file
): # Table by group of files: how many, rejected, the largest difference of probability, calls that differ
    "How two ways differ"
    gap = (other.probability - mine.probability.values).abs()
    group = np.where(kinds.str.contains('JPEG'), 'JPEG', kinds.str.split(',').str[0].where(kinds.str.contains('PNG|TIFF|DICOM'), 'to be rejected'))
    rows = pd.DataFrame(dict(group=group, gap=gap.values, differs=other.call.values != mine.call.values, rejected=other.call.values == 'rejected'))
    found = rows.groupby('group').agg(files=('gap', 'size'), rejected=('rejected', 'sum'), largest_difference=('gap', 'max'), other_calls=('differs', 'sum'))
    return found.reset_index()

if __name__ == '__main__':
    run = Path(sys.argv[1])
    clf = load_classifier(run)
    tests = read_dataset(find_data()).query("split == 'test'").path.tolist()
    tests = [tests[i] for i in np.random.default_rng(1).permutation(len(tests))]
    with tempfile.TemporaryDirectory() as tmp:
        tmp = Path(tmp)
        (tmp/'xrays').mkdir()
        made = make_files(tests, tmp/'xrays')
        mine = clf.predict(made.file)
        ways = {
            'command': predict_folder(run, made.file.tolist(), tmp/'answers.csv'),
            'ONNX': by_onnx(export_onnx(clf, tmp/'model.onnx'), made.file.tolist()),
            'page': by_page(write_page(clf, tmp/'page.html', read_predictions(run, clf.positive)), made.file),
        }
    rows = []
    for way, table in ways.items():
        # the page leaves TIFF to the command, and says so
        use = ~made.kind.str.contains('TIFF') if way == 'page' else made.kind.notna()
        found = compare(mine[use].reset_index(drop=True), table[use].reset_index(drop=True), made.kind[use].reset_index(drop=True))
        rows += [dict(way=way, **row) for row in found.round(6).astype(object).where(found.notna(), None).to_dict('records')]
    record = dict(run=clf.about['id'], data=clf.about['data']['name'].split('-')[0], files=len(made), kinds=made.kind.nunique(),
                  calls=mine.call.value_counts().to_dict(), off={k: int(v) for k, v in made.groupby('kind').off.max().dropna().items()},
                  versions=dict(onnxruntime=onnxruntime.__version__), rows=rows)
    out = Path(__file__).with_suffix('.json')
    out.write_text(json.dumps(record, indent=1, default=int) + '\n')
    print(pd.DataFrame(rows).to_string(), record['off'], record['calls'], sep='\n')
