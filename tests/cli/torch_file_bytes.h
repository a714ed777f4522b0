// torch.save files made by hand, byte by byte: what no honest writer makes too.
#ifndef CKPT_TESTS_CLI_TORCH_FILE_BYTES_H_
#define CKPT_TESTS_CLI_TORCH_FILE_BYTES_H_

#include <cstdint>
#include <string>
#include <vector>

namespace ckpt::testing {

struct ZipItem {
  std::string name;
  std::string bytes;
};
// Where in the archive things lie, to be written over.
struct ZipPlaces {
  std::vector<size_t> local;      // of each item's header
  std::vector<size_t> data;       // of its bytes
  std::vector<size_t> directory;  // of its entry in the directory
  size_t end = 0;                 // of the end record
};
// A plain archive without padding, as other tools make them.
std::string ZipOf(const std::vector<ZipItem>& items, ZipPlaces* places = nullptr);

// With a pickle of protocol 2 (what stands between its first and its last opcode), and storages 0,
// 1, ...
std::string TorchFileOf(const std::string& pickle, const std::vector<std::string>& storages = {});

// Pieces of pickles.
std::string PickledText(const std::string& text);
std::string PickledInteger(int32_t value);
std::string PickledTuple(const std::string& items);
std::string PickledGlobal(const std::string& module, const std::string& name);
std::string PickledCall(const std::string& global, const std::string& arguments);
// {"name": value}
std::string PickledDict(const std::string& name, const std::string& value);
std::string PickledStorage(const std::string& type, const std::string& key, int32_t elements);
// Of a storage, as _rebuild_tensor_v2.
std::string PickledTensor(const std::string& storage, int32_t offset,
                          const std::vector<int32_t>& shape, const std::vector<int32_t>& strides);

std::string Repeated(const std::string& text, size_t times);
// Little-endian.
void WriteOver(std::string& bytes, size_t at, uint64_t value, size_t count);

}  // namespace ckpt::testing

#endif  // CKPT_TESTS_CLI_TORCH_FILE_BYTES_H_
