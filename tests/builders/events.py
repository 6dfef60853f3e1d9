"""TensorBoard event files."""

import tensorflow.compat.v1 as tf


def write_events(folder, begun, scalars):
    """Write an event file of a run that began at a time, in seconds; `scalars` is tag -> step -> value."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"events.out.tfevents.{begun}.host"
    steps = sorted({step for values in scalars.values() for step in values})
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(tf.Event(wall_time=begun, file_version="brain.Event:2").SerializeToString())
        for step in steps:
            values = [
                tf.Summary.Value(tag=tag, simple_value=values[step])
                for tag, values in scalars.items()
                if step in values
            ]
            writer.write(tf.Event(wall_time=begun, step=step, summary=tf.Summary(value=values)).SerializeToString())
    return path
