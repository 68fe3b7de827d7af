"""What bad input gets: one line of cause, one of remedy, the right exit status, no traceback, and nothing left behind.

The table below is also the page docs/bad_input.md, which `python -m tests.whole.test_bad_input` writes anew.
"""

import gzip
import hashlib
import logging
import os
import re
import shlex
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from bad_values import summary
from conftest import ROOT
from finished import call, finish, small_flags
from PIL import Image

from project.data.sources import known_sets

PAGE = ROOT / "docs" / "bad_input.md"
TRAIN_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
CONFIG = "run/config.yaml"
Prepare = Callable[[Path], object]
"""Makes something wrong in a folder that holds good data in `data` and, for evaluate.py, a good run in `run`."""


@dataclass(frozen=True)
class Row:
    """One thing that can be wrong.

    Args:
        given: What the user gave, in words.
        flags: What the user typed, after good flags, which it overrides; {} is the folder.
        cause: Part of the first line of the answer; {} is the folder.
        remedy: Part of the second line.
        script: Which command was typed.
    """

    given: str
    flags: str
    cause: str
    remedy: str
    script: str


def change(name: str, how: Callable[[bytes], bytes]) -> Prepare:
    """Rewrite a file; one without a folder in its name is of the data."""

    def prepare(folder: Path) -> None:
        path = folder / (name if "/" in name else f"data/{name}")
        path.write_bytes(how(path.read_bytes()))

    return prepare


def write(name: str, content: bytes) -> Prepare:
    return lambda folder: (folder / name).write_bytes(content)


def header(*sizes: int, element_type: int = 8) -> bytes:
    return bytes((0, 0, element_type, len(sizes))) + struct.pack(f">{len(sizes)}I", *sizes)


def gzipped(content: bytes) -> Prepare:
    """Put a gzipped file in the place of the training images."""

    def prepare(folder: Path) -> None:
        (folder / "data" / TRAIN_IMAGES).unlink()
        (folder / "data" / f"{TRAIN_IMAGES}.gz").write_bytes(gzip.compress(content))

    return prepare


def flip_a_bit_of_mnist(folder: Path) -> None:
    """MNIST's four files, as this test knows them, with one bit flipped in one pixel."""
    raw = folder / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in (TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS):
        shutil.move(folder / "data" / name, raw / name)
    content = bytearray((raw / TRAIN_IMAGES).read_bytes())
    content[1000] ^= 1
    (raw / TRAIN_IMAGES).write_bytes(content)


BOMB = b"a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + b"".join(
    b"a%d: &a%d [%s]\n" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 9)) for n in range(1, 10)
)


def linked_settings(folder: Path) -> None:
    shutil.move(folder / CONFIG, folder / "elsewhere.yaml")
    (folder / CONFIG).symlink_to("../elsewhere.yaml")


def with_code(folder: Path) -> None:
    """A checkpoint that, loaded as a pickle, would call a function."""
    path = folder / "run" / "checkpoints" / "best.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["spec"] = Exploit()
    torch.save(checkpoint, path)


def photos(counts: dict[str, int], spoil: Prepare = lambda _: None) -> Prepare:
    """Pictures in a folder `photos`, so many in each of its folders; then something wrong with them."""

    def prepare(folder: Path) -> None:
        for name, count in counts.items():
            (folder / "photos" / name).mkdir(parents=True)
            for number in range(count):
                picture = Image.new("RGB", (8, 9), (number, 2 * number, 255 * (name == "cat")))
                picture.save(folder / "photos" / name / f"{number}.png")
        spoil(folder)

    return prepare


def arrays(**changed: object) -> Prepare:
    """An .npz file of good pictures and targets but for what is changed."""

    def prepare(folder: Path) -> None:
        good = {"x_train": np.zeros((30, 5, 4), np.uint8), "y_train": np.arange(30) % 3}
        np.savez(folder / "a.npz", **(changed if "a" in changed else good | changed))

    return prepare


class Exploit:
    """What a stranger's file may hold."""

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return os.mkdir, ("this must never be made",)


def remove(name: str) -> Prepare:
    def prepare(folder: Path) -> None:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return prepare


TEST_WITH_OWL = {"test/cat": 1, "test/dog": 1, "test/owl": 1}
NO_GPU = not torch.cuda.is_available()
TABLE = """
## Data
an IDX file that is cut short |  |
    {}/data/train-images-idx3-ubyte is cut short: 240 × 8 × 9 = 17,280 bytes are expected after the header, 17,180
    were | Replace
bytes after the end of an IDX file |  |
    train-labels-idx1-ubyte has bytes after its end: 240 = 240 bytes are expected after the header, 243 were found |
    Replace
a web page in place of an IDX file |  | is a web page, not data | often means a wrong address or a log-in
an empty IDX file |  | t10k-labels-idx1-ubyte is empty | Replace
a file that is no IDX file |  |
    is not an IDX file of images × height × width: it starts with bytes 50 4b 03 04; 00 00 08 03 are expected |
    Replace
an IDX file of floats |  |
    holds 32-bit floats (element type 0x0d); unsigned bytes (0x08) are expected | Write pixels and labels as
    unsigned bytes, 0 to 255
labels where images should be |  |
    train-images-idx3-ubyte has 1 dimension(s); 3 are expected | Images (3 dimensions) go into …-images-idx3-ubyte
more images than labels |  |
    holds 240 images, {}/data/train-labels-idx1-ubyte 239 labels | Give the two files that were written together
a test label that no training label has |  |
    t10k-labels-idx1-ubyte has label 200 at position 56; 0 to 2 are expected | Number the classes from 0, alike in
    both label files
test images of another size |  | holds images of 8 × 9 pixels | Bring all images to one size
one flipped bit in a known data set | --data.dataset mnist |
    is not MNIST's: the SHA-256 of its uncompressed bytes is | Delete {}
a gzip bomb: a small file that announces terabytes |  |
    announces 4294967295 × 28 × 28 = 3,367,254,359,280 bytes | Replace
a gzip bomb: a small file that goes on for long after its end |  |
    has bytes after its end: 240 × 8 × 9 = 17,280 bytes are expected after the header, more were found | Replace
no folder of data | --data.root '' | data.root is empty | type a value after --data.root
no folder of data, in a settings file | --config {}/a.yaml | data.root is empty, but must be a text | --data.root data
a folder without data | --data.root {}/nowhere | {}/nowhere does not exist | give it as --data.root
a known data set that is not there, without a download | --data.dataset mnist --data.download false |
    MNIST was not found | Add --data.download true

a folder that has no subfolders | --data.dataset folder --data.root {}/photos/cat |
    {}/photos/cat has no subfolder, but two classes or more are expected | put one subfolder of pictures per class
a folder of one class | --data.dataset folder --data.root {}/photos |
    {}/photos has one subfolder, cat, but two classes or more | put one subfolder of pictures per class
a class without pictures | --data.dataset folder --data.root {}/photos | {}/photos/dog has no picture | add pictures
a class of one picture, without a test set | --data.dataset folder --data.root {}/photos |
    class dog has one example, but a test set is cut from the same pool | add examples of it
a picture that is cut short | --data.dataset folder --data.root {}/photos |
    1 of 18 pictures cannot be used; {}/photos/dog/0.png cannot be read | remove the file
a class that test/ lacks | --data.dataset folder --data.root {}/photos |
    {}/photos/test lacks 1 of the 2 classes of {}/photos/train, the first being dog | add {}/photos/test/dog
a class that only test/ has | --data.dataset folder --data.root {}/photos |
    {}/photos/test has the class owl, which {}/photos/train has not | remove {}/photos/test/owl
pictures scaled to nothing | --data.size 0 | data.size is 0, but must be at least 1 | --data.size 28
arrays that are not there | --data.dataset arrays --data.root {}/gone.npz | {}/gone.npz does not exist | give an .npz
arrays by other names | --data.dataset arrays --data.root {}/a.npz |
    {}/a.npz has a, b; x_train, y_train, x_test, y_test or | save the arrays under these names
pictures of mixed sizes | --data.dataset arrays --data.root {}/a.npz |
    {}/a.npz: x_train is an array of Python objects, which could run code | one uint8 array
an array of floats as pictures | --data.dataset arrays --data.root {}/a.npz |
    x_train holds float64; levels from 0 to 255 as uint8 are expected | save np.round(255 * x).astype(np.uint8)
arrays of different lengths | --data.dataset arrays --data.root {}/a.npz |
    y_train has the shape 29; one target for each of the 30 pictures | one number for each picture
missing targets | --data.dataset arrays --data.root {}/a.npz --model.task regression |
    y_train has 1 missing (NaN) or infinite targets, the first at position 3 | remove these examples
a training set of one class | --data.classes "[0, 1]" |
    the training examples have one class, or one number as target | add examples of another class
real numbers as classes | --data.dataset arrays --data.root {}/a.npz |
    are real numbers, but model.task is multiclass | type --model.task regression
targets of one class | --data.dataset arrays --data.root {}/a.npz |
    have one class, or one number as target, but two or more are needed | --data.target rotation

## Extensions
an extension that is not there | --extensions {}/mine.py | {}/mine.py cannot be read | name a Python file after
    --extensions
an extension that raises an error | --extensions {}/mine.py | {}/mine.py cannot be imported: ZeroDivisionError in line 2
    | correct the file
an extension that replaces a row | --extensions {}/mine.py | mine.py replaces relu in ACTIVATIONS | give the row a name
    of its own
an extension with the name of a module | --extensions {}/json.py | json.py has the name of a module that there is
    already | rename it to my_json.py
a run whose extension is not given | evaluate {}/run | {}/run was made with the extension 'mine.py' | add --extensions
    and the path of that file
## Settings
batch larger than the data | --data.batch_size 201 | there are only 200 training examples | 200 or less
a batch of more than there can be | --data.batch_size 1000000000000 |
    data.batch_size is 1e+12, but must be at most 1,000,000,000 | --data.batch_size 128
empty batch | --data.batch_size 0 | data.batch_size is 0, but must be at least 1 | --data.batch_size 128
batch that cannot be cut into equal parts | --trainer.accumulate_grad_batches 3 |
    data.batch_size 32 cannot be shared evenly by 1 processes with trainer.accumulate_grad_batches 3 | type
    --data.batch_size 30
batch norm with a batch of 1 | --data.batch_size 1 --model.norm batch |
    model.norm batch needs at least 2 examples | --data.batch_size 2 or more, or --model.norm layer
a negative validation split | --data.num_validation -1 |
    data.num_validation is -1, but must be at least 0 | --data.num_validation 5000
a validation split larger than the data | --data.num_validation 240 |
    need more than the 240 training examples that there are | type --data.num_validation auto
a training set larger than the data | --data.num_train 201 |
    data.num_validation 40 and data.num_train 201 need more than the 240 | type --data.num_train 200 or less
more wrong labels than labels | --data.label_noise 1.5 |
    data.label_noise is 1.5, but must be a share from 0 to 1 | --data.label_noise 0.2
wrong labels for a regression | --data.label_noise 0.1 --model.task regression |
    a regression has no classes to draw labels from | type --data.label_noise 0
no training examples | --data.num_train 0 | data.num_train is 0, but must be at least 1 | type for example
a negative split seed | --data.split_seed -1 | data.split_seed is -1 | --data.split_seed 1
a split seed of 23 digits | --data.split_seed 10000000000000000000000 |
    data.split_seed is 1e+22, but must be at most 4,294,967,295 | --data.split_seed 1
a negative seed | --seed_everything -1 | seed_everything is -1, but must be at least 0 | --seed_everything 1
a class that does not exist | --data.classes "[0, 9]" |
    data.classes is [0, 9], but the classes of idx are 0 to 2 | --data.classes "[0, 2]"
no classes | --data.classes "[]" | must list two or more classes, each once | --data.classes "[3, 8]"
the binary task without two classes | --model.task binary |
    needs two different classes, but data.classes is None | --data.classes "[3, 8]"
rotation as target of a classification | --data.target rotation |
    data.target rotation is a number, but model.task is multiclass | type --model.task regression
mixup and cutmix at once | --data.augmentation "[mixup, cutmix]" |
    a batch's targets can be mixed only once | choose one of the two
dropout of everything | --model.dropout 1 | model.dropout is 1, but must be | --model.dropout 0.2
a learning rate of 0 | --model.learning_rate 0 | must be positive | --model.learning_rate 0.001
a learning rate that is not a number | --model.learning_rate .nan | is nan | --model.learning_rate 0.001
a learning rate in words | --model.learning_rate nan | is nan, but must be a number | type for example
an infinite weight decay | --model.weight_decay .inf | model.weight_decay is inf | --model.weight_decay
momentum 1 | --model.momentum 1 | must be at least 0 and less than 1 | --model.momentum 0.9
only warm-up | --model.warmup_fraction 1 | less than 1 | --model.warmup_fraction 0.1
layers without units | --model.width 0 | every hidden layer needs at least 1 unit | --model.width 512
a list of no widths | --model.width "[]" | lists 0 layers, but model.depth is 2 | --model.width 512
more widths than layers | --model.width "[9, 8, 7]" | lists 3 layers, but | type --model.depth 3
a negative depth | --model.depth -1 | model.depth is -1, but must be 0 or more | --model.depth 2
a network larger than any memory | --model.width 1000000000000 |
    model.depth 2 and model.width 1000000000000 does not fit into memory | make one of the two smaller
a loss that compares classes, for regression | --model.task regression --model.loss hinge |
    loss hinge is for multiclass and binary alone, but model.task is regression | choose --model.loss mse, mae or huber
a name that does not exist | --model.activation rleu | none of its choices | did you mean relu?
a misspelt setting | --model.dpth 3 | there is no setting 'model.dpth' | did you mean model.depth?
an abbreviated flag | --model.lear 0.1 | there is no setting | did you mean model.learning_rate?
the field's short name | --lr 0.1 | there is no setting 'lr' | did you mean model.learning_rate?
a word in place of a number | --model.depth deep | model.depth is deep, but must be a whole number | 2
a flag without its value | --run_name | argument --run_name: expected one argument | --help
a metric that nobody measures | --monitor validation/acuracy |
    monitor is 'validation/acuracy', which this run will not measure | did you mean validation/accuracy?
negative patience | --patience -1 | patience is -1, but must be at least 0 | --patience 10

## Settings files
a settings file that is not there | --config {}/no.yaml | {}/no.yaml cannot be read | name a YAML file
a folder as settings file | --config {}/data | {}/data cannot be read: Is a directory | name a YAML file
a settings file that is not YAML | --config {}/a.yaml | {}/a.yaml is not YAML | fix the file
a settings file that is not text | --config {}/a.yaml | {}/a.yaml is no text in UTF-8 | fix the file
a settings file that holds a list | --config {}/a.yaml |
    {}/a.yaml holds a list, but settings are expected | one setting per line
an empty settings file | --config {}/a.yaml | holds nothing | one setting per line
a misspelt key in a settings file | --config {}/a.yaml | there is no setting 'model.dpth' | did you mean model.depth?
a misspelt section in a settings file | --config {}/a.yaml |
    there is no setting 'modle.depth' | did you mean model.depth?
a name that does not exist, in a settings file | --config {}/a.yaml |
    model.optimizer is adma, which is none of its choices | did you mean adam?
an object in a settings file | --config {}/a.yaml | which is no plain data, in line 1 | fix the file
a setting twice in a file | --config {}/a.yaml | {}/a.yaml names 'depth' twice, in lines 2 and 4 | fix the file
a settings file of a few lines that stands for billions of values | --config {}/a.yaml |
    {}/a.yaml stands for more than 100,000 values, in line | fix the file
a settings file that is nested 10,000 deep | --config {}/a.yaml |
    {}/a.yaml is nested more than 50 deep, in line 1 | fix the file
a settings file with a number of 5,000 digits | --config {}/a.yaml | for a whole number, in line 1 | fix the file
a time in the place of a number | --model.depth 1:30 | model.depth is 1:30, but must be a whole number | --model.depth 2

## Trainer
no epochs | --trainer.max_epochs 0 | trainer.max_epochs is 0: nothing would be trained | leave
epochs without end | --trainer.max_epochs -1 | the training would have no end | give a number
epochs that are not said | --trainer.max_epochs null |
    trainer.max_epochs is null: the training would have no end | give a number
more epochs than there are | --trainer.min_epochs 2 | trainer.min_epochs is 2, but trainer.max_epochs is 1 |
    --trainer.max_epochs 2
more steps than there are | --trainer.min_steps 7 | trainer.min_steps is 7, but 1 epochs have 6 steps |
    raise --trainer.max_epochs
negative epochs | --trainer.max_epochs -5 | max_epochs | that trainer setting
no steps | --trainer.max_steps 0 | trainer.max_steps is 0: nothing would be trained | leave
no batches | --trainer.limit_train_batches 0 | nothing would be trained | leave
less than a batch | --trainer.limit_train_batches 0.001 | less than one of | --trainer.limit_train_batches 1
less than a batch of validation | --trainer.limit_val_batches 0.1 | one of 8 batches | at least 0.125
bare bones | --trainer.barebones true | trainer.barebones is true | leave it out
machines that nobody started | --trainer.num_nodes 2 | trainer.num_nodes is 2 | torchrun or SLURM
more than all batches | --trainer.limit_train_batches 1.5 | limit_train_batches | that trainer setting
batches in words | --trainer.limit_train_batches few | is few, but must be a whole number | type for example
no validation batches | --trainer.limit_val_batches 0 | there is a validation split | --data.num_validation 0
validation after every 0 batches | --trainer.val_check_interval 0 | there is no time between two validations |
    --trainer.val_check_interval 0.5
validation after the epoch's end | --trainer.val_check_interval 7 |
    trainer.val_check_interval is 7, but there are only 6 batches | --trainer.val_check_interval 6
validation after the training's end | --trainer.check_val_every_n_epoch 2 |
    but the training has 1 epochs, so that nothing would be validated | type a smaller number
checkpoints that are not saved | --checkpoint_every_n_steps 2 --trainer.enable_checkpointing false |
    but trainer.enable_checkpointing is false | leave out one of the two
a way to clip without a limit | --trainer.gradient_clip_algorithm value |
    without trainer.gradient_clip_val nothing is clipped | --trainer.gradient_clip_val 1
a place on a server | --trainer.model_registry a/b | trainer.model_registry names a place on a server | leave it out
no accumulation | --trainer.accumulate_grad_batches 0 | must be 1 or more | leave it out
a negative clipping norm | --trainer.gradient_clip_val -1 | must be 0 or more | leave it out
no devices | --trainer.devices 0 | trainer.devices is 0, but must be at least 1 | --trainer.devices 1
a negative number of devices | --trainer.devices -3 | devices | that trainer setting
an unknown precision | --trainer.precision 12 | trainer.precision is 12, which is none of | bf16-mixed
an unknown accelerator | --trainer.accelerator gqu | invalid accelerator name | that trainer setting
a GPU where there is none | --trainer.accelerator gpu |
    a GPU is asked for, but torch {version} sees none on this machine | --trainer.accelerator cpu, or leave
    --trainer.accelerator out
a callback that chooses the size of a batch | --trainer.callbacks+=BatchSizeFinder |
    data.batch_size decides what a network learns | --data.batch_size 1024
a misspelt argument of a callback | --trainer.callbacks+=Timer --trainer.callbacks.duraton 00:00:10:00 |
    trainer.callbacks.duraton is 00:00:10:00, which the class named before it does not take | compare the name
an average of the weights that comes too late |
    --trainer.callbacks+=StochasticWeightAveraging --trainer.callbacks.swa_lrs 0.01 |
    has its average only after the last validation | --trainer.callbacks+=EMAWeightAveraging
a limit on time in words | --trainer.callbacks+=Timer --trainer.callbacks.duration soon |
    is not a valid duration. Expected a string in the format DD:HH:MM:SS | that trainer setting
a callback that does not exist | --trainer.callbacks+=Timr | trainer.callbacks is Timr | leave --trainer.callbacks out
a limit on time of 0 | --trainer.max_time 00:00:00:00 | the limit on time | --trainer.max_time 00:01:00:00
a callback's limit on time of 0 | --trainer.callbacks+=Timer --trainer.callbacks.duration 00:00:00:00 |
    the limit on time | --trainer.max_time 00:01:00:00
a limit on time that is none | --trainer.max_time soon | soon | that trainer setting
a callback without what it needs | --trainer.callbacks+=DeviceStatsMonitor --trainer.logger false |
    Cannot use `DeviceStatsMonitor` callback with `Trainer(logger=False)` | that trainer setting

## Run folder
a file where the folder of runs should be | --run_root {}/file |
    the run folder cannot be made under {}/file/idx: Not a directory | choose a folder that can be written:
    --run_root FOLDER
a folder of runs that cannot be made | --run_root /proc/runs |
    the run folder cannot be made under /proc/runs/idx | choose a folder that can be written: --run_root FOLDER
no folder of runs | --run_root '' | run_root is empty | type a value after --run_root
the name of another run | --run_name first |
    the run folder {}/runs/idx/first exists already, and runs are never overwritten | choose another --run_name
a name with a blank at its end | --run_name 'first ' | run_name is 'first ', but must be a text without |
    --run_name first
a path as name | --run_name a/b | run_name 'a/b' is no plain folder name | --run_name first
a name that moves the cursor | --run_name "{escape}" | must be a text without |
    --run_name first
a name of 300 letters | --run_name {long} | the run folder's name is too long | --run_name first

## Evaluation
a folder that is no run | evaluate {}/data |
    {}/data is no run folder: it has no config.yaml | name the folder that training printed
a run that is not there | evaluate {}/gone | {}/gone is no run folder | name the folder
no run | evaluate | run | --help
a run without a checkpoint | evaluate {}/run | {}/run has no checkpoint yet | train it first
a checkpoint that is cut short | evaluate {}/run/checkpoints/best.ckpt |
    {}/run/checkpoints/best.ckpt cannot be loaded | checkpoint
a checkpoint of another architecture | evaluate {}/run |
    does not fit the settings in {}/run/config.yaml | use a checkpoint and a config.yaml of the same run
a checkpoint with code in it | evaluate {}/run/checkpoints/best.ckpt |
    cannot be loaded as plain data | name a checkpoint that this project wrote
a class path in a run's settings | evaluate {}/run | there is no setting 'model.class_path' |
a run whose results name one thing twice | evaluate {}/run |
    {}/run/provenance.json names 'a' twice, see lines 1, 1 | fix the file
a run whose settings are a link to a file elsewhere | evaluate {}/run |
    {}/run/config.yaml is a link to '../elsewhere.yaml' | put what it stands for in its place
a run whose settings are no YAML | evaluate {}/run | {}/run/config.yaml is not YAML | fix the file
a run whose data are gone | evaluate {}/run | {}/data does not exist |
a split that does not exist | evaluate {}/run --split tset |
    split is tset, which is none of its choices | did you mean test?

## Predicting, exporting, drawing
a picture that is not there | predict {}/run {}/gone.png | there is no file {}/gone.png | check
a pattern that fits nothing | predict {}/run '{}/*.gif' | no file matches {}/*.gif | check
a folder without pictures | predict {}/run {}/run/checkpoints | checkpoints contains no picture | end in
a picture without a name | predict {}/run '' | a name on the command line is empty | type a name
no pictures at all | predict {}/run | images | --help
no class to tell | predict {}/run {}/data --top 0 | top is 0 | type for example --top 3
another way to print | predict {}/run {}/data --format xml | xml | csv
pictures for a folder that is no run | predict {}/data {}/data | {}/data is no run folder | name
another kind of file | export {}/run --to pickle | pickle | safetensors
a name that does not fit the kind | export {}/run --to onnx --output {}/model.pt2 |
    but onnx files end in .onnx | type --output {}/model.onnx
an export onto a file that is there | export {}/run --to torch_export --output {}/model.pt2 |
    {}/model.pt2 exists already | type --overwrite
an export to a file without a name | export {}/run --to onnx --output '' | output is empty | type a value after --output
a page for a folder that is no run | demo {}/data | {}/data is no run folder | name the folder
a port that does not exist | demo {}/run --port 70000 | 70000 | --port
"""
"""What is given | typed after good flags, which it overrides | part of the cause | part of the remedy.

{} is the folder, {long} a name of 300 letters, {escape} what makes a terminal red. A line that is indented goes on with
the row above it. The command is train.py, unless another one is named first.
"""
PREPARE: dict[str, Prepare] = {
    "an IDX file that is cut short": change(TRAIN_IMAGES, lambda content: content[:-100]),
    "bytes after the end of an IDX file": change(TRAIN_LABELS, lambda content: content + b"abc"),
    "a web page in place of an IDX file": change(TEST_IMAGES, lambda _: b"<!DOCTYPE html><html>Not found</html>"),
    "an empty IDX file": change(TEST_LABELS, lambda _: b""),
    "a file that is no IDX file": change(TRAIN_IMAGES, lambda _: b"PK\3\4 something zipped"),
    "an IDX file of floats": change(TRAIN_IMAGES, lambda content: header(240, 8, 9, element_type=13) + content[16:]),
    "labels where images should be": change(TRAIN_IMAGES, lambda _: header(240) + bytes(240)),
    "more images than labels": change(TRAIN_LABELS, lambda content: header(239) + content[8:-1]),
    "a test label that no training label has": change(TEST_LABELS, lambda content: content[:-1] + b"\xc8"),
    "test images of another size": change(TEST_IMAGES, lambda content: header(57, 9, 8) + content[16:]),
    "one flipped bit in a known data set": flip_a_bit_of_mnist,
    "a gzip bomb: a small file that announces terabytes": gzipped(header(2**32 - 1, 28, 28) + bytes(100_000)),
    "a gzip bomb: a small file that goes on for long after its end": gzipped(header(240, 8, 9) + bytes(5_000_000)),
    "a folder that has no subfolders": photos({"cat": 2}),
    "a folder of one class": photos({"cat": 2}),
    "a class without pictures": photos({"cat": 2, "dog": 0}),
    "a class of one picture, without a test set": photos({"cat": 2, "dog": 1}),
    "a picture that is cut short": photos({"cat": 9, "dog": 9}, change("photos/dog/0.png", lambda png: png[:44])),
    "a class that test/ lacks": photos({"train/cat": 2, "train/dog": 2, "test/cat": 1}),
    "a class that only test/ has": photos(dict.fromkeys(("train/cat", "train/dog"), 2) | TEST_WITH_OWL),
    "arrays by other names": arrays(a=[1], b=[2]),
    "pictures of mixed sizes": arrays(x_train=np.array([np.zeros((2, 2)), np.zeros((3, 3))], dtype=object)),
    "an array of floats as pictures": arrays(x_train=np.zeros((30, 5, 4))),
    "arrays of different lengths": arrays(y_train=np.arange(29)),
    "missing targets": arrays(y_train=np.where(np.arange(30) == 3, np.nan, 1.0)),
    "real numbers as classes": arrays(y_train=np.arange(30) / 7),
    "targets of one class": arrays(y_train=np.zeros(30, int)),
    "a training set of one class": change(
        TRAIN_LABELS, lambda content: content[:8] + bytes(i % 3 // 2 * 2 for i in range(240))
    ),
    "no folder of data, in a settings file": write("a.yaml", b"data: {root: ''}"),
    "a settings file that is not YAML": write("a.yaml", b"model: {depth: [\n"),
    "a setting twice in a file": write("a.yaml", b"model:\n  depth: 2\n  width: 3\n  depth: 4\n"),
    "a settings file of a few lines that stands for billions of values": write("a.yaml", BOMB),
    "a settings file that is nested 10,000 deep": write("a.yaml", b"model: " + b"[" * 10_000),
    "a settings file with a number of 5,000 digits": write("a.yaml", b"seed_everything: " + b"9" * 5000),
    "a run whose results name one thing twice": write("run/provenance.json", b'{"a": 1, "a": 2}'),
    "a run whose settings are a link to a file elsewhere": linked_settings,
    "a settings file that is not text": write("a.yaml", b"\xff\xfe\0\x80"),
    "a settings file that holds a list": write("a.yaml", b"- model\n- data\n"),
    "an empty settings file": write("a.yaml", b""),
    "a misspelt key in a settings file": write("a.yaml", b"model: {dpth: 3}"),
    "a misspelt section in a settings file": write("a.yaml", b"modle: {depth: 3}"),
    "a name that does not exist, in a settings file": write("a.yaml", b"model: {optimizer: adma}"),
    "an object in a settings file": write(
        "a.yaml", b"model: !!python/object/apply:os.mkdir [this must never be made]\n"
    ),
    "a file where the folder of runs should be": write("file", b""),
    "the name of another run": lambda folder: (folder / "runs" / "idx" / "first").mkdir(parents=True),
    "a run without a checkpoint": remove("run/checkpoints"),
    "a checkpoint that is cut short": change("run/checkpoints/best.ckpt", lambda content: content[:1000]),
    "a checkpoint of another architecture": change(CONFIG, lambda content: content.replace(b"width: 16", b"width: 17")),
    "a checkpoint with code in it": with_code,
    "a class path in a run's settings": change(
        CONFIG, lambda content: content.replace(b"model:", b"model:\n  class_path: os.system")
    ),
    "a run whose settings are no YAML": write(CONFIG, b"model: ["),
    "a run whose data are gone": remove("data"),
    "an extension that raises an error": write("mine.py", b"x = 0\n1 / x\n"),
    "an extension that replaces a row": write(
        "mine.py", b"from project.network.activations import ACTIVATIONS as A\nA['relu'] = A['tanh']\n"
    ),
    "an extension with the name of a module": write("json.py", b"x = 0\n"),
    "a run whose extension is not given": change(
        "run/provenance.json", lambda content: content.replace(b'"extensions": {}', b'"extensions": {"mine.py": "0"}')
    ),
    "an export onto a file that is there": write("model.pt2", b"something else"),
}


def read_table() -> dict[str, list[Row]]:
    sections: dict[str, list[Row]] = {}
    for line in re.sub(r"\n {4}", " ", TABLE.strip()).splitlines():
        if line.startswith("## "):
            rows = sections[line[3:]] = []
        elif line:
            given, typed, cause, remedy = (cell.strip() for cell in line.split("|"))
            script, flags = re.match(r"(?:(evaluate|predict|export|demo)\b)?\s*(.*)", typed).groups()
            rows.append(
                Row(
                    given,
                    flags.replace("{long}", "x" * 300).replace("{escape}", "\x1b[31m"),
                    cause,
                    remedy,
                    script or "train",
                )
            )
    return sections


SECTIONS = read_table()
ROWS = [row for rows in SECTIONS.values() for row in rows]


assert set(PREPARE) <= {row.given for row in ROWS}


@pytest.fixture(scope="module")
def good(idx_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with good data and a good run."""
    folder = tmp_path_factory.mktemp("good")
    shutil.copytree(idx_folder, folder / "data")
    run = finish(*small_flags(folder / "data", folder / "runs"), "--trainer.max_epochs=1")
    shutil.move(run, folder / "run")
    shutil.rmtree(folder / "runs")
    return folder


@pytest.fixture
def folder(good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to spoil; MNIST is what its data are, so that a flipped bit can be found without the real one."""
    place = tmp_path / "place"
    shutil.copytree(good, place)
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (place / "data").iterdir()}
    known = known_sets.KnownSet("MNIST", ("0", "1", "2"), ((240, 8, 9), (57, 8, 9)), digests)
    monkeypatch.setitem(known_sets.KNOWN_SETS, "mnist", known)
    # a run's settings name where its data were
    config = place / "run" / "config.yaml"
    config.write_text(config.read_text().replace(str(good), str(place)))
    monkeypatch.chdir(tmp_path)
    return place


def everything(folder: Path) -> dict[str, tuple[int, int]]:
    """All files and folders below, with size and time of the last change of the files."""
    found = {}
    for path in sorted(folder.rglob("*")):
        stat = path.lstat()
        found[str(path.relative_to(folder))] = (stat.st_size, stat.st_mtime_ns) if path.is_file() else (0, 0)
    return found


def usual(folder: Path) -> list[str]:
    flags = [*small_flags(folder / "data", folder / "runs"), "--trainer.max_epochs=1", "--trainer.log_every_n_steps=2"]
    return [*flags, "--trainer.accelerator=cpu"]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.given.replace(" ", "-"))
def test_bad_input(row: Row, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if "GPU" in row.given and not NO_GPU:
        pytest.skip("there is a GPU")
    if "/proc" in row.flags and not Path("/proc/self").exists():
        pytest.skip("there is no /proc")
    PREPARE.get(row.given, lambda _: None)(folder)
    before = everything(folder.parent)
    common = {"train": usual(folder), "evaluate": ["--accelerator=cpu"]}.get(row.script, [])
    # any exception other than SystemExit would be a traceback
    said = call(capsys, row.script, *common, *shlex.split(row.flags.replace("{}", str(folder))))
    assert (said.status, said.out) == (2, ""), said.err
    cause, remedy = said.err.splitlines()
    assert cause.startswith("error: ")
    assert remedy.startswith("  fix: ")
    assert row.cause.replace("{version}", torch.__version__).replace("{}", str(folder)) in cause
    assert row.remedy.replace("{}", str(folder)) in remedy
    assert len(remedy) > len("  fix: ")
    # nothing was written: no run folder, no half of a file
    after = everything(folder.parent)
    for name in ("place/runs", "place/runs/idx"):  # where a run folder was taken away again
        before.pop(name, None)
        after.pop(name, None)
    assert after == before


def test_no_validation_is_accepted_and_reported(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logging.getLogger("project"), "handlers", [])  # pytest's own, in place of the terminal's
    said = call(capsys, "train", *usual(folder), "--data.num_validation=0")
    assert said.status == 0
    assert "data.num_validation is 0: no validation, so train/accuracy decides the best epoch" in said.err


@pytest.mark.parametrize("name", ["LOCAL_RANK", "RANK", "WORLD_SIZE", "SLURM_PROCID", "MLP_MAIN_PROCESS"])
@pytest.mark.parametrize("value", ["x", "-1", "", "1.5"])
def test_a_launchers_number_that_is_none(
    name: str, value: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, value)
    said = call(capsys, "train", *usual(folder))
    assert said.status == 2
    assert len(said.err.splitlines()) == 2
    assert name in said.err
    assert not (folder / "runs").exists()


@pytest.mark.parametrize(
    "flag", ["--trainer.accelerator=gqu", "--trainer.devices=-3", "--trainer.strategy=dpp", "--trainer.max_epochs=null"]
)
def test_the_machine_is_checked_before_data_are_fetched(
    flag: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = everything(folder.parent)
    said = call(capsys, "train", *usual(folder), "--data.dataset=kmnist", f"--data.root={folder / 'new'}", flag)
    assert said.status == 2
    assert "not found" not in said.err
    assert everything(folder.parent) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "closed").mkdir(mode=0o500)
    said = call(capsys, "train", *usual(folder), f"--run_root={folder / 'closed'}")
    assert said.status == 2
    assert "Permission denied" in said.err


def page() -> str:
    """The table as a page of the documentation."""
    lines = [
        "# What bad input gets",
        "",
        "Every refusal is two lines, one of cause and one of remedy, on standard error; the exit status is 2, nothing",
        "is left behind, and `--debug` adds the traceback. `…` stands for more text, `FOLDER` for where you are. Each",
        "row is a test: this page is written from its table by `python -m tests.whole.test_bad_input`.",
    ]
    for title, rows in SECTIONS.items():
        lines += ["", f"## {title}", "", "| what is given | typed | cause | remedy |", "| --- | --- | --- | --- |"]
        for row in rows:
            typed = f"`{row.script}.py {shown(row.flags)}".rstrip() + "`"
            lines.append(f"| {row.given} | {typed} | {dotted(row.cause)} | {dotted(row.remedy)} |")
    lines += ["", "## Every setting, with twelve kinds of bad value", "", *summary()]
    return "\n".join(lines) + "\n"


def shown(value: str) -> str:
    value = re.sub(r"(x){20,}", "xxx…", value)
    value = value.replace("\x1b", "ESC")
    return value.replace("{}", "FOLDER").replace("{version}", "…").replace("|", "\\|")


def dotted(fragment: str) -> str:
    return f"…{shown(fragment)}…" if fragment else "…"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "write it anew: python -m tests.whole.test_bad_input"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
