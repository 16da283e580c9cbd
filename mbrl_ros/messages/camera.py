"""Pictures as sensor_msgs/Image, and what takes points to their pixels as sensor_msgs/CameraInfo."""
from __future__ import annotations

from array import array
from typing import Any

from mbrl_ros.messages.fields import Message, write_stamp
from mbrl_ros.types import Array

FRAME = "camera"  # x to the right in the picture, y down, z away from the camera
ENCODINGS = {1: "mono8", 3: "rgb8"}  # by the number of channels


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
