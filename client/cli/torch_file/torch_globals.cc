#include "client/cli/torch_file/torch_globals.h"

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace ckpt::cli {
namespace {

using GlobalKind = TorchGlobal::Kind;

struct Row {
  const char* module;
  const char* name;
  GlobalKind kind;
};
constexpr Row kRows[] = {
    {"collections", "OrderedDict", GlobalKind::kOrderedDict},
    {"torch._utils", "_rebuild_tensor", GlobalKind::kRebuildTensor},
    {"torch._utils", "_rebuild_tensor_v2", GlobalKind::kRebuildTensorV2},
    {"torch._utils", "_rebuild_tensor_v3", GlobalKind::kRebuildTensorV3},
    {"torch._utils", "_rebuild_parameter", GlobalKind::kRebuildParameter},
    {"torch", "Size", GlobalKind::kSize},
    {"_codecs", "encode", GlobalKind::kEncode},
    {"builtins", "bytes", GlobalKind::kEmptyBytes},
    {"__builtin__", "bytes", GlobalKind::kEmptyBytes},
    {"torch.jit._pickle", "restore_type_tag", GlobalKind::kTagged},
    {"torch.jit._pickle", "build_intlist", GlobalKind::kTagged},
    {"torch.jit._pickle", "build_doublelist", GlobalKind::kTagged},
    {"torch.jit._pickle", "build_boollist", GlobalKind::kTagged},
    {"torch.jit._pickle", "build_tensorlist", GlobalKind::kTagged},
    {"torch.storage", "UntypedStorage", GlobalKind::kStorage},
    {"torch", "UntypedStorage", GlobalKind::kStorage},
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
      if (name == element.storage) return TorchGlobal{GlobalKind::kStorage, element.dtype};
      if (name == element.name) return TorchGlobal{GlobalKind::kDType, element.dtype};
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
