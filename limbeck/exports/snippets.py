"""Lines of code that use an ONNX export in other languages and runtimes, for its README."""

import json

from limbeck.models.encoder_io import Preprocessing

_OPENVINO = """import openvino

model = openvino.compile_model("model.onnx", "CPU", {{"INFERENCE_PRECISION_HINT": "f32"}})  # else bf16 on some CPUs
{output} = model(pixels)[0]  # pixels as above; [1 {dim}]
"""
_JAVASCRIPT = """import * as ort from "onnxruntime-web"; // npm install onnxruntime-web

const SIZE = {size}, SIDE = {side}; // pixels: the input, and the square that an image is squeezed to
{constants}
export async function compute(session, image) {{ // session: await ort.InferenceSession.create("model.onnx")
  const context = new OffscreenCanvas(SIZE, SIZE).getContext("2d"); // image: an ImageBitmap, <img> or <canvas>
  context.drawImage(image, {offset}, {offset}, SIDE, SIDE); // the center of the square
  const {{ data }} = context.getImageData(0, 0, SIZE, SIZE); // red, green, blue and alpha of every pixel
  const pixels = new {array}(3 * SIZE * SIZE);
  for (let place = 0; place < SIZE * SIZE; place++)
    for (let channel = 0; channel < 3; channel++)
      {assignment}
  const images = new ort.Tensor("{kind}", pixels, {shape});
  const {{ {output} }} = await session.run({{ images }});
  return {output}.data; // {dim} numbers
}}
"""
_AS_THEY_ARE = "pixels[3 * place + channel] = data[4 * place + channel];"
_NORMALIZED = "pixels[channel * SIZE ** 2 + place] = (data[4 * place + channel] / 255 - MEAN[channel]) / STD[channel];"
_CPP = """#include <onnxruntime_cxx_api.h>

#include <array>
#include <cstdint>
#include <vector>

// session: Ort::Session(env, "model.onnx", Ort::SessionOptions{{}}) with Ort::Env env; pixels: {shape}, as in Python
std::vector<float> compute(Ort::Session& session, std::vector<{type}>& pixels) {{
  const std::array<int64_t, 4> shape{{{numbers}}};
  const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  const auto images =
      Ort::Value::CreateTensor<{type}>(memory, pixels.data(), pixels.size(), shape.data(), shape.size());
  const char* const inputs[] = {{"images"}};
  const char* const outputs[] = {{"{output}"}};
  const auto found = session.Run(Ort::RunOptions{{}}, inputs, &images, 1, outputs, 1);
  const float* const first = found[0].GetTensorData<float>();
  return {{first, first + {dim}}};
}}
"""


def other_languages(how: Preprocessing, dim: int, output: str, *, fold: bool) -> str:
    """Return the sections on OpenVINO, JavaScript and C++ of the README of an ONNX export, in Markdown.

    Args:
        how: the preprocessing.
        dim: number of outputs.
        output: their name, "features" or "logits".
        fold: whether the network takes uint8 pixels and normalizes them itself.
    """
    side, size = int(how.image_size / how.crop_pct), how.image_size
    shape = f"[1, {size}, {size}, 3]" if fold else f"[1, 3, {size}, {size}]"
    constants = "" if fold else f"const MEAN = {json.dumps(how.mean)}, STD = {json.dumps(how.std)};\n"
    javascript = _JAVASCRIPT.format(
        size=size,
        side=side,
        offset=-((side - size) // 2),
        constants=constants,
        array="Uint8Array" if fold else "Float32Array",
        assignment=_AS_THEY_ARE if fold else _NORMALIZED,
        kind="uint8" if fold else "float32",
        shape=shape,
        output=output,
        dim=dim,
    )
    cpp = _CPP.format(
        shape=shape, type="uint8_t" if fold else "float", numbers=shape.strip("[]"), output=output, dim=dim
    )
    openvino = _OPENVINO.format(output=output, dim=dim)
    return (
        f"\n## OpenVINO\n\n```python\n{openvino}```\n\n## JavaScript\n\n```javascript\n{javascript}```\n\n"
        "A browser resizes in its own way: squeeze the image as in Python where the last digits matter.\n\n"
        f"## C++\n\n```cpp\n{cpp}```\n"
    )
