#include "tests/cli/torch_file_bytes.h"

#include <zlib.h>

namespace ckpt::testing {
namespace {

std::string Little(uint64_t value, size_t count) {
  std::string out;
  for (; count > 0; --count, value >>= 8) out.push_back(static_cast<char>(value));
  return out;
}

// Version to the length of the name: what both headers share.
std::string Common(const ZipItem& item) {
  const uLong crc =
      crc32_z(0, reinterpret_cast<const Bytef*>(item.bytes.data()), item.bytes.size());
  return Little(20, 2) + Little(0, 8) + Little(crc, 4) + Little(item.bytes.size(), 4) +
         Little(item.bytes.size(), 4) + Little(item.name.size(), 2);
}

}  // namespace

void WriteOver(std::string& bytes, size_t at, uint64_t value, size_t count) {
  bytes.replace(at, count, Little(value, count));
}

std::string ZipOf(const std::vector<ZipItem>& items, ZipPlaces* places) {
  ZipPlaces own;
  if (places == nullptr) places = &own;
  std::string out;
  for (const ZipItem& item : items) {
    places->local.push_back(out.size());
    out += "PK\x03\x04" + Common(item) + Little(0, 2) + item.name;
    places->data.push_back(out.size());
    out += item.bytes;
  }
  const size_t start = out.size();
  for (size_t i = 0; i < items.size(); ++i) {
    places->directory.push_back(out.size());
    out += "PK\x01\x02" + Little(20, 2) + Common(items[i]) + Little(0, 12) +
           Little(places->local[i], 4) + items[i].name;
  }
  places->end = out.size();
  return out + "PK\x05\x06" + Little(0, 4) + Little(items.size(), 2) + Little(items.size(), 2) +
         Little(places->end - start, 4) + Little(start, 4) + Little(0, 2);
}

std::string TorchFileOf(const std::string& pickle, const std::vector<std::string>& storages) {
  std::vector<ZipItem> items = {{"made/data.pkl", "\x80\x02" + pickle + "."}};
  for (size_t i = 0; i < storages.size(); ++i) {
    items.push_back({"made/data/" + std::to_string(i), storages[i]});
  }
  items.push_back({"made/version", "3\n"});
  return ZipOf(items);
}

std::string PickledText(const std::string& text) { return "X" + Little(text.size(), 4) + text; }

std::string PickledInteger(int32_t value) { return "J" + Little(static_cast<uint32_t>(value), 4); }

std::string PickledTuple(const std::string& items) { return "(" + items + "t"; }

std::string PickledGlobal(const std::string& module, const std::string& name) {
  return "c" + module + "\n" + name + "\n";
}

std::string PickledCall(const std::string& global, const std::string& arguments) {
  return global + PickledTuple(arguments) + "R";
}

std::string PickledDict(const std::string& name, const std::string& value) {
  return "}" + PickledText(name) + value + "s";
}

std::string PickledStorage(const std::string& type, const std::string& key, int32_t elements) {
  return PickledTuple(PickledText("storage") + PickledGlobal("torch", type) + PickledText(key) +
                      PickledText("cpu") + PickledInteger(elements)) +
         "Q";
}

std::string PickledTensor(const std::string& storage, int32_t offset,
                          const std::vector<int32_t>& shape, const std::vector<int32_t>& strides) {
  std::string shape_items;
  std::string stride_items;
  for (const int32_t extent : shape) shape_items += PickledInteger(extent);
  for (const int32_t stride : strides) stride_items += PickledInteger(stride);
  return PickledCall(PickledGlobal("torch._utils", "_rebuild_tensor_v2"),
                     storage + PickledInteger(offset) + PickledTuple(shape_items) +
                         PickledTuple(stride_items) + "\x89" +
                         PickledCall(PickledGlobal("collections", "OrderedDict"), ""));
}

std::string Repeated(const std::string& text, size_t times) {
  std::string out;
  for (size_t i = 0; i < times; ++i) out += text;
  return out;
}

}  // namespace ckpt::testing
