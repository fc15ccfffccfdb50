"""Videos as streams of features, against every frame by itself, video codecs on features, and video of the pixels."""
