#include "client/cli/torch_file/torch_globals.h"

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace ckpt::cli {
namespace {

using Kind = TorchGlobal::Kind;

struct Row {
  const char* module;
  const char* name;
  Kind kind;
};
constexpr Row kRows[] = {
    {"collections", "OrderedDict", Kind::kOrderedDict},
    {"torch._utils", "_rebuild_tensor", Kind::kRebuildTensor},
    {"torch._utils", "_rebuild_tensor_v2", Kind::kRebuildTensorV2},
    {"torch._utils", "_rebuild_tensor_v3", Kind::kRebuildTensorV3},
    {"torch._utils", "_rebuild_parameter", Kind::kRebuildParameter},
    {"torch", "Size", Kind::kSize},
    {"_codecs", "encode", Kind::kEncode},
    {"builtins", "bytes", Kind::kEmptyBytes},
    {"__builtin__", "bytes", Kind::kEmptyBytes},
    {"torch.jit._pickle", "restore_type_tag", Kind::kTagged},
    {"torch.jit._pickle", "build_intlist", Kind::kTagged},
    {"torch.jit._pickle", "build_doublelist", Kind::kTagged},
    {"torch.jit._pickle", "build_boollist", Kind::kTagged},
    {"torch.jit._pickle", "build_tensorlist", Kind::kTagged},
    {"torch.storage", "UntypedStorage", Kind::kStorage},
    {"torch", "UntypedStorage", Kind::kStorage},
};

struct Element {
  DType dtype;
  const char* name;
  const char* storage;
};
constexpr Element kElements[] = {
    {v1::DTYPE_BOOL, "bool", "BoolStorage"},
    {v1::DTYPE_U8, "uint8", "ByteStorage"},
    {v1::DTYPE_I8, "int8", "CharStorage"},
    {v1::DTYPE_I16, "int16", "ShortStorage"},
    {v1::DTYPE_I32, "int32", "IntStorage"},
    {v1::DTYPE_I64, "int64", "LongStorage"},
    {v1::DTYPE_F16, "float16", "HalfStorage"},
    {v1::DTYPE_BF16, "bfloat16", "BFloat16Storage"},
    {v1::DTYPE_F32, "float32", "FloatStorage"},
    {v1::DTYPE_F64, "float64", "DoubleStorage"},
    {v1::DTYPE_C64, "complex64", "ComplexFloatStorage"},
    {v1::DTYPE_F8_E4M3, "float8_e4m3fn", ""},
    {v1::DTYPE_F8_E5M2, "float8_e5m2", ""},
    {v1::DTYPE_U16, "uint16", ""},
    {v1::DTYPE_U32, "uint32", ""},
    {v1::DTYPE_U64, "uint64", ""},
};

}  // namespace

absl::StatusOr<TorchGlobal> FindTorchGlobal(absl::string_view module, absl::string_view name) {
  for (const Row& row : kRows) {
    if (module == row.module && name == row.name) return TorchGlobal{row.kind};
  }
  if (module == "torch" && !name.empty()) {
    for (const Element& element : kElements) {
      if (name == element.storage) return TorchGlobal{Kind::kStorage, element.dtype};
      if (name == element.name) return TorchGlobal{Kind::kDType, element.dtype};
    }
  }
  const std::string full = absl::StrCat(module.substr(0, 100), ".", name.substr(0, 100));
  return absl::InvalidArgumentError(absl::StrCat(
      "refuses ", absl::CHexEscape(full), ": only tensors, containers and plain values are read"));
}

absl::string_view TorchStorageName(DType dtype) {
  for (const Element& element : kElements) {
    if (element.dtype == dtype) return element.storage;
  }
  return "";
}

absl::string_view TorchDTypeName(DType dtype) {
  for (const Element& element : kElements) {
    if (element.dtype == dtype) return element.name;
  }
  return "";
}

}  // namespace ckpt::cli
