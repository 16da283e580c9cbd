"""Pictures as sensor_msgs/Image, and what takes points to their pixels as sensor_msgs/CameraInfo."""
from __future__ import annotations

from array import array
from typing import Any

import numpy as np
from PIL import Image

from mbrl_ros.messages.fields import Message, MessageError, read_stamp, write_stamp
from mbrl_ros.types import Array

FRAME = "camera"  # x to the right in the picture, y down, z away from the camera
ENCODINGS = {1: "mono8", 3: "rgb8"}  # by the number of channels
RGB, BGR = [0, 1, 2], [2, 1, 0]
READ = {"mono8": (1, [0]), "8UC1": (1, [0]), "rgb8": (3, RGB), "8UC3": (3, RGB), "bgr8": (3, BGR), "rgba8": (4, RGB),
        "bgra8": (4, BGR)}  # how many channels, and which are brightness, or red, green and blue
BRIGHT = np.array([0.299, 0.587, 0.114])  # how bright red, green and blue are (ITU-R BT.601)


def to_image(cls: Any, pixels: Array, time: int) -> Message:
    """An Image of pixels (rows, columns, 1 or 3), 0 to 255, seen at `time` [ns]."""
    message = cls()
    write_stamp(message.header.stamp, time)
    message.header.frame_id = FRAME
    message.height, message.width, channels = pixels.shape
    message.encoding, message.is_bigendian = ENCODINGS[channels], 0
    message.step = message.width * channels
    message.data = array("B", pixels.tobytes())
    return message


def to_camera_info(cls: Any, pixels: Array, focal: float, time: int) -> Message:
    """The CameraInfo of a picture by a pinhole camera of that focal length [px], which looks at its middle."""
    message, (height, width, _) = cls(), pixels.shape
    write_stamp(message.header.stamp, time)
    message.header.frame_id = FRAME
    message.height, message.width, message.distortion_model = height, width, "plumb_bob"
    column, row = 0.5 * (width - 1), 0.5 * (height - 1)  # ROS counts from the middle of the first pixel
    message.d = array("d", [0.0] * 5)
    message.k = [focal, 0.0, column, 0.0, focal, row, 0.0, 0.0, 1.0]
    message.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    message.p = [focal, 0.0, column, 0.0, 0.0, focal, row, 0.0, 0.0, 0.0, 1.0, 0.0]
    return message


def from_image(message: Any) -> tuple[int, Array]:
    """Time [ns] and pixels (rows, columns, 1 or 3), 0 to 255, of an Image. Raises MessageError."""
    encoding, rows, columns = message.encoding, message.height, message.width
    if encoding not in READ:
        raise MessageError(f"image: expected an encoding of {', '.join(READ)}, got {encoding!r}")
    (channels, shown), data = READ[encoding], np.frombuffer(message.data, np.uint8)
    if not rows * columns or message.step < columns * channels or len(data) != rows * message.step:
        raise MessageError(f"image: expected {rows} rows of {columns} pixels in steps of {columns * channels} bytes or "
                           f"more, got {len(data)} bytes in steps of {message.step}")
    pixels = data.reshape(rows, message.step)[:, : columns * channels].reshape(rows, columns, channels)
    return read_stamp(message.header.stamp), pixels[..., shown]


def fitted(pixels: Array, width: int, channels: int) -> Array:
    """The square in the middle of a picture (rows, columns, 1 or 3), 0 to 255, so wide and in so many channels. Raises
    MessageError for what is no picture."""
    if pixels.ndim != 3 or pixels.shape[-1] not in (1, 3) or 0 in pixels.shape or pixels.dtype != np.uint8:
        raise MessageError(f"picture: expected rows x columns x 1 or 3 of whole numbers, 0 to 255, got {pixels.dtype} "
                           f"of shape {pixels.shape}")
    rows, columns, _ = pixels.shape
    side = min(rows, columns)
    pixels = pixels[(rows - side) // 2 :][:side, (columns - side) // 2 :][:, :side]
    if pixels.shape[-1] != channels:
        pixels = np.round(pixels @ BRIGHT[:, None]).astype(np.uint8) if channels == 1 else np.repeat(pixels, 3, -1)
    if side != width:
        layers = [Image.fromarray(layer).resize((width, width), Image.Resampling.BOX)
                  for layer in np.moveaxis(pixels, -1, 0)]
        pixels = np.stack([np.asarray(layer) for layer in layers], -1)
    return pixels
