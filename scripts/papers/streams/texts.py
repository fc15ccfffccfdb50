"""What the page of docs/results/streams says besides its figures."""

INTRODUCTION = """Frames of a video go through a cut network. What crosses the cut is sent as a stream: key frames,
which can be read alone, and frames that `ContextRANS` codes beside the symbols of the frame before ("the frame before
as reference"). Sticky quantizers keep a symbol until its value has clearly left its level, by a margin in distances
of levels. Every payload is decoded and answered, headers and code tables counted ("tables known" leaves out tables
that were fitted to the frames to choose on, and are sent once). Agreement is with the answers of the unsplit network
on the same frames: there are no labels. For boxes it is mAP at IoU 0.5 with the unsplit network's boxes above a
confidence of 0.25 as ground truth, otherwise the share of frames with the same class.

Settings come from other data than the table scores. Limits and levels are calibrated on photographs of COCO's training
images. The margin of a row is the largest of those measured that keeps 98 % of the agreement without margin on frames
that are not scored: all others of the same video, or other photographs. Qualities of video codecs are not chosen;
each stream is set beside the smallest video that agrees at least as well.

Rivals are x265 and x264 as PyAV has them, on one core, without B-frames and look-ahead (`zerolatency`), since every
frame is to be answered when it comes; preset `medium` unless something else is said. "On tiled features" codes the same
features in 256 levels, the channels beside each other as one grey picture. "Of the pixels" codes the images at the
network's input size, and the whole network runs on the server.
"""

GOALS = """Bytes of frames that are no key frames, as a share of the mean frame coded by itself with the same levels.
A sticky row is met only if it keeps 98 % of the agreement on the scored frames too. For unrelated images in sequence:
the frame of the largest share, key frames included.
"""

HEADS = {
    "tiled": "Against video codecs on the tiled features, at equal agreement or better. The last column says how many "
    "times as many frames the stream codes in a second (processor time from features to payload, on one core):\n",
    "pixels": "Against video of the pixels. The device then needs no part of the network; the last column leaves out "
    "what the network's head takes before a stream is coded:\n",
    "still": "Frames that barely differ: the first frame eight times, with normal noise on each pixel, rounded to grey "
    "levels; a frame in which at most 2 % of the symbols have changed is sent as a repeat:\n",
}

NOTES = """## How to read it

- The static camera's file is itself H.264: between its frames most blocks are exact copies, which suits video codecs.
- A margin changes few answers, but it does change them: agreement stands beside every figure.
- Class agreement on one scene may say little: where the unsplit network is torn between two classes, nearly equal in
  all frames, tiny changes turn all answers at once. An agreement near 0 on a single video is then no measure of what
  is lost; where nothing agrees, no margin is chosen.
- Points are kept and may come from several runs: bytes and agreement do not depend on that, processor times do.
- A scene of few frames has few objects, and its agreement is coarse: differences of a point or two mean nothing.
- Other videos and bottlenecks are added by their files: `scripts/papers/streams/run --video FILE --mobilenet-bottleneck
  FILE`; `splitlearn test` with `configs/streams` measures one setting on any video.
"""
