"""The logical axes of all parameters in this room, named by meaning.

A sharding rule maps these names to axes of hardware; `AXES` is what such rules
can be checked against.
"""

CONV_KERNEL = ("kernel_height", "kernel_width", "channels_in", "channels_out")
CONV_BIAS = ("channels_out",)
NORM = ("channels",)
HIDDEN_KERNEL = ("inputs", "hidden")
HIDDEN_BIAS = ("hidden",)
HEAD_KERNEL = ("features", "classes")
HEAD_BIAS = ("classes",)

AXES = (
  "kernel_height",
  "kernel_width",
  "channels_in",
  "channels_out",
  "channels",
  "inputs",
  "hidden",
  "features",
  "classes",
)
