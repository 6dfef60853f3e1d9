"""All kinds of input, by the names that the command line takes."""

from tests.fuzz import image_kinds, text_kinds, weight_kinds

KINDS = {
    "voc": text_kinds.Voc,
    "coco": text_kinds.Coco,
    "yolo": text_kinds.Yolo,
    "labelme": text_kinds.LabelMe,
    "openimages": text_kinds.OpenImages,
    "odapi": image_kinds.ObjectDetectionApi,
    "yaml": text_kinds.Yaml,
    "config": text_kinds.Config,
    "dataset_info": text_kinds.DatasetInfo,
    "labels": text_kinds.Labels,
    "results": text_kinds.Results,
    "tf_config": text_kinds.TfConfig,
    "flags": text_kinds.Flags,
    "pictures": image_kinds.Pictures,
    "records": image_kinds.Records,
    "torch": weight_kinds.Torch,
    "caffe": weight_kinds.Caffe,
    "keras": weight_kinds.Keras,
    "checkpoints": weight_kinds.Checkpoints,
    "v1_checkpoints": weight_kinds.V1Checkpoints,
}
