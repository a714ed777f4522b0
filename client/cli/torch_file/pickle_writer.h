// A pickle of protocol 2, value by value, with those opcodes alone that PyTorch's own restricted
// reader (torch.load with weights_only) knows.
#ifndef CKPT_CLIENT_CLI_TORCH_FILE_PICKLE_WRITER_H_
#define CKPT_CLIENT_CLI_TORCH_FILE_PICKLE_WRITER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace ckpt::cli {

// The order of the calls is the value. One thread.
class PickleWriter {
 public:
  // `sink` gets the pickle piece by piece; Finish returns its first error. Must outlive this.
  explicit PickleWriter(absl::FunctionRef<absl::Status(absl::string_view)> sink);

  void None() { Put('N'); }
  void Bool(bool value) { Put(value ? '\x88' : '\x89'); }
  void Integer(int64_t value);
  void Real(double value);
  void Text(absl::string_view utf8);    // shorter than 4 GiB
  void Bytes(absl::string_view bytes);  // shorter than 2 GiB
  // A container: Begin, then Next and an item (a key and its value in a dictionary) for each, End.
  void BeginDict() { Begin('}', 'u'); }
  void BeginList() { Begin(']', 'e'); }
  void Next();
  void End();
  void Mark() { Put('('); }
  void Tuple() { Put('t'); }  // of all values since the mark
  void IntegerTuple(absl::Span<const uint64_t> values);
  void Global(absl::string_view module, absl::string_view name);  // at most 256 different ones
  void Call() { Put('R'); }            // a global and a tuple become what it returns
  void PersistentId() { Put('Q'); }    // a tuple becomes the storage that it names
  absl::Status Finish();

 private:
  struct Container {
    char end;            // the opcode that adds a bundle of items to it
    uint32_t items = 0;  // in the open bundle
  };
  void Begin(char begin, char end);
  void Put(char opcode) { Put(absl::string_view(&opcode, 1)); }
  void Put(absl::string_view bytes);

  absl::FunctionRef<absl::Status(absl::string_view)> sink_;
  absl::Status status_;
  std::string buffer_;
  std::vector<Container> open_;
  absl::flat_hash_map<std::string, uint8_t> global_places_;  // written before: where
};

}  // namespace ckpt::cli

#endif  // CKPT_CLIENT_CLI_TORCH_FILE_PICKLE_WRITER_H_
