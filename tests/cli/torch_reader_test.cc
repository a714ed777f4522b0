// torch.save files that somebody made with bad intent, or that broke: each is refused with a text
// that says why. What an honest one becomes is compared with PyTorch itself in
// torch_python_test.cc.
#include "client/cli/torch_file/torch_reader.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "common/key.h"
#include "common/limits.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/cli/torch_file_bytes.h"
#include "tests/fixtures/daemon.h"

namespace ckpt::cli {
namespace {

using namespace ckpt::testing;  // what makes the files
using ::testing::HasSubstr;

absl::StatusOr<std::vector<ImportLeaf>> Read(std::string bytes) {
  return ReadTorchFile(InputFile::OfBytes("some.pt", std::move(bytes)));
}

// Empty where it was not refused.
std::string Refusal(std::string bytes) {
  const auto leaves = Read(std::move(bytes));
  if (leaves.ok()) return "";
  EXPECT_THAT(std::string(leaves.status().message()), HasSubstr("some.pt: "));
  return std::string(leaves.status().message());
}

std::string RefusedPickle(const std::string& pickle,
                          const std::vector<std::string>& storages = {"01234567"}) {
  return Refusal(TorchFileOf(pickle, storages));
}

std::string RefusedTensor(int32_t offset, const std::vector<int32_t>& shape,
                          const std::vector<int32_t>& strides) {
  return RefusedPickle(
      PickledDict("t", PickledTensor(PickledStorage("FloatStorage", "0", 2), offset, shape,
                                     strides)));
}

// --- what it may not call

struct CodeCase {
  std::string pickle;  // with COMMAND for a shell command
  std::string name;    // what the refusal must say
};

TEST(TorchReaderCode, NothingIsExecuted) {
  ScratchFolder folder;
  const std::string marker = folder / "executed";
  const std::string touch = "touch " + marker;
  const std::string argument = PickledText(touch);
  const CodeCase cases[] = {
      {PickledCall(PickledGlobal("posix", "system"), argument), "posix.system"},
      {PickledCall(PickledGlobal("os", "system"), argument), "os.system"},
      {PickledCall(PickledGlobal("subprocess", "check_output"), argument),
       "subprocess.check_output"},
      {PickledCall(PickledGlobal("builtins", "eval"),
                   PickledText("__import__('os').system('" + touch + "')")),
       "builtins.eval"},
      {PickledCall(PickledGlobal("__builtin__", "exec"), argument), "__builtin__.exec"},
      {PickledCall(PickledGlobal("builtins", "getattr"), argument), "builtins.getattr"},
      // A chain: what one call returns is called next.
      {PickledCall(PickledCall(PickledGlobal("importlib", "import_module"), PickledText("os")),
                   argument),
       "importlib.import_module"},
      // By the stack, as protocol 4 does.
      {PickledText("os") + PickledText("system") + "\x93" + PickledTuple(argument) + "R",
       "os.system"},
      // Never called, only named.
      {PickledDict("x", PickledGlobal("os", "system")), "os.system"},
      {PickledGlobal("torch.nn.modules.linear", "Linear") + ")\x81}b",
       "torch.nn.modules.linear.Linear"},
      {PickledGlobal("torch.hub", "load") + ")R", "torch.hub.load"},
      {PickledGlobal("torch", "load") + ")R", "torch.load"},
      {PickledGlobal("torch._utils", "_rebuild_tensor_v2.__globals__") + ")R",
       "torch._utils._rebuild_tensor_v2.__globals__"},
      {PickledGlobal("collections", "OrderedDict.fromkeys") + ")R",
       "collections.OrderedDict.fromkeys"},
      // INST and OBJ of protocol 0 and 1, extensions, Python's own persistent ids.
      {"(" + argument + "ios\nsystem\n", "opcode 0x69"},
      {"(" + PickledGlobal("os", "system") + argument + "o", "os.system"},
      {"\x82\x01", "opcode 0x82"},
      {"Pdata/../../x\n", "opcode 0x50"},
  };
  for (const CodeCase& code : cases) {
    for (const std::string& pickle : {code.pickle, PickledDict("inner", code.pickle)}) {
      const std::string refusal = RefusedPickle(pickle);
      EXPECT_THAT(refusal, HasSubstr("refuses " + code.name)) << refusal;
      EXPECT_THAT(refusal, HasSubstr("only tensors, containers and plain values are read"));
    }
  }
  EXPECT_FALSE(std::filesystem::exists(marker));
  // The marker is one that a pickle could have made.
  ASSERT_EQ(std::system(touch.c_str()), 0);
  EXPECT_TRUE(std::filesystem::exists(marker));
}

TEST(TorchReaderCode, OnlyTheFewKnownFunctionsAreCalled) {
  EXPECT_THAT(RefusedPickle(PickledText("os.system") + ")R"),
              HasSubstr("refuses to call a string"));
  EXPECT_THAT(RefusedPickle("})R"), HasSubstr("refuses to call a dictionary"));
  EXPECT_THAT(RefusedPickle(PickledGlobal("torch", "FloatStorage") + ")R"),
              HasSubstr("refuses to call a class of storages"));
  EXPECT_THAT(RefusedPickle(PickledGlobal("collections", "OrderedDict") + "]R"),
              HasSubstr("a call without arguments"));
  EXPECT_THAT(RefusedPickle("]}b"), HasSubstr("refuses to set the attributes of a list"));
  EXPECT_THAT(RefusedPickle(PickledDict("s", "\x8f")), HasSubstr("refuses a set"));
  EXPECT_THAT(RefusedPickle(PickledDict("s", PickledGlobal("torch", "FloatStorage"))),
              HasSubstr("refuses a class"));
}

// --- storages and tensors

TEST(TorchReaderTensor, AStorageIsNamedByAPlainKey) {
  for (const char* key : {"../0", "/etc/passwd", "..", "", "0/../../x", "a\\b", "0.pkl"}) {
    EXPECT_THAT(RefusedPickle(PickledDict(
                    "t", PickledTensor(PickledStorage("FloatStorage", key, 2), 0, {2}, {1}))),
                HasSubstr("which names no entry"))
        << key;
  }
  EXPECT_THAT(RefusedPickle(PickledDict(
                  "t", PickledTensor(PickledStorage("FloatStorage", "7", 2), 0, {2}, {1}))),
              HasSubstr("data/7, is not in the archive"));
}

TEST(TorchReaderTensor, AStorageReferenceIsATupleOfFive) {
  const std::string storage = PickledText("storage");
  const std::string type = PickledGlobal("torch", "FloatStorage");
  const std::string rest = PickledText("0") + PickledText("cpu");
  for (const std::string& id :
       {PickledText("/etc/passwd"), PickledTuple(""), PickledTuple(storage + type + rest),
        PickledTuple(PickledText("module") + type + rest + PickledInteger(2)),
        PickledTuple(storage + PickledText("FloatStorage") + rest + PickledInteger(2)),
        PickledTuple(storage + type + rest + PickledInteger(-2)),
        PickledTuple(storage + PickledGlobal("torch", "float32") + rest + PickledInteger(2))}) {
    EXPECT_THAT(RefusedPickle(id + "Q"), HasSubstr("malformed reference to a storage"));
  }
  const std::string huge = std::string("\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f", 10);
  EXPECT_THAT(RefusedPickle(PickledTuple(storage + type + rest + huge) + "Q"),
              HasSubstr("a storage's size is too large"));
}

TEST(TorchReaderTensor, AStorageIsAsLongAsItsTensorsSay) {
  const std::string pickle =
      PickledDict("t", PickledTensor(PickledStorage("FloatStorage", "0", 2), 0, {2}, {1}));
  EXPECT_EQ(RefusedPickle(pickle, {"01234567"}), "");
  EXPECT_THAT(RefusedPickle(pickle, {"0123456"}), HasSubstr("is 7 B, but should be 8 B"));
  EXPECT_THAT(RefusedPickle(pickle, {"012345678"}), HasSubstr("is 9 B, but should be 8 B"));
  const std::string twice =
      "}(" + PickledText("a") +
      PickledTensor(PickledStorage("FloatStorage", "0", 2), 0, {2}, {1}) + PickledText("b") +
      PickledTensor(PickledStorage("LongStorage", "0", 1), 0, {1}, {1}) + "u";
  EXPECT_THAT(RefusedPickle(twice), HasSubstr("storage 0 is of two types or sizes"));
}

TEST(TorchReaderTensor, ATensorLiesWithinItsStorage) {
  EXPECT_EQ(RefusedTensor(0, {2}, {1}), "");
  EXPECT_EQ(RefusedTensor(1, {1, 1}, {7, 9}), "");  // strides of single rows are never taken
  EXPECT_EQ(RefusedTensor(2, {0, 3}, {3, 1}), "");
  for (const auto& [offset, shape, strides] :
       std::vector<std::tuple<int32_t, std::vector<int32_t>, std::vector<int32_t>>>{
           {1, {2}, {1}},
           {0, {3}, {1}},
           {0, {2}, {2}},
           {2, {}, {}},
           {2, {1}, {1}},
           {3, {0}, {1}},
           {INT32_MAX, {2}, {1}},
           {0, {2, 2}, {1, 1}},
           {0, {2}, {INT32_MAX}},
           {0, {INT32_MAX, INT32_MAX}, {INT32_MAX, INT32_MAX}}}) {
    EXPECT_NE(RefusedTensor(offset, shape, strides), "") << offset;
  }
  EXPECT_THAT(RefusedTensor(0, {3}, {1}), HasSubstr("reaches beyond the end of its storage"));
  EXPECT_THAT(RefusedTensor(0, {-1}, {1}), HasSubstr("malformed size or strides"));
  EXPECT_THAT(RefusedTensor(0, {2}, {-1}), HasSubstr("malformed size or strides"));
  EXPECT_THAT(RefusedTensor(1, {2, 1}, {1}), HasSubstr("malformed size or strides"));
  EXPECT_THAT(RefusedTensor(-1, {1}, {1}), HasSubstr("malformed tensor"));
  EXPECT_THAT(RefusedTensor(0, std::vector<int32_t>(17, 1), std::vector<int32_t>(17, 1)),
              HasSubstr("17 dimensions"));
}

// Strides of zero: a few bytes that would become any number of them.
TEST(TorchReaderTensor, AViewDoesNotMultiplyTheFile) {
  EXPECT_EQ(RefusedTensor(0, {1000, 2}, {0, 1}), "");
  EXPECT_THAT(RefusedTensor(0, {100000000, 2}, {0, 1}), HasSubstr("far more than the file holds"));
  EXPECT_THAT(RefusedTensor(0, {INT32_MAX, INT32_MAX}, {0, 0}), HasSubstr("too large"));
  std::string many = "}(";  // each of them small enough alone
  for (int i = 0; i < 9; ++i) {
    many += PickledText(std::to_string(i)) +
            PickledTensor(PickledStorage("FloatStorage", "0", 2), 0, {1 << 21, 1 + i % 2},
                          {0, i / 2 == 0});
  }
  EXPECT_EQ(RefusedPickle(many + "u"), "");  // most are equal: aliases cost nothing
  std::string different = "}(";
  for (int i = 0; i < 9; ++i) {
    different += PickledText(std::to_string(i)) +
                 PickledTensor(PickledStorage("FloatStorage", "0", 2), 0, {(1 << 21) + i}, {0});
  }
  EXPECT_THAT(RefusedPickle(different + "u"), HasSubstr("far more than the file holds"));
}

TEST(TorchReaderTensor, StorageOutsideOfATensorIsRefused) {
  EXPECT_THAT(RefusedPickle(PickledDict("s", PickledStorage("FloatStorage", "0", 2))),
              HasSubstr("'s': refuses a storage"));
}

// What newer versions of PyTorch write, of which there is no package to test with.
TEST(TorchReaderTensor, UntypedStoragesHaveTheDTypeBesideThem) {
  const auto tensor = [](const std::string& dtype, int32_t elements, const std::string& metadata) {
    const std::string storage =
        PickledTuple(PickledText("storage") + PickledGlobal("torch.storage", "UntypedStorage") +
                     PickledText("0") + PickledText("cpu") + PickledInteger(8)) +
        "Q";
    return PickledDict(
        "t", PickledCall(PickledGlobal("torch._utils", "_rebuild_tensor_v3"),
                         storage + PickledInteger(0) + PickledTuple(PickledInteger(elements)) +
                             PickledTuple(PickledInteger(1)) + "\x89" +
                             PickledCall(PickledGlobal("collections", "OrderedDict"), "") +
                             PickledGlobal("torch", dtype) + metadata));
  };
  for (const auto& [name, dtype] :
       std::vector<std::pair<std::string, DType>>{{"float8_e4m3fn", v1::DTYPE_F8_E4M3},
                                                  {"float8_e5m2", v1::DTYPE_F8_E5M2},
                                                  {"uint16", v1::DTYPE_U16},
                                                  {"uint32", v1::DTYPE_U32},
                                                  {"uint64", v1::DTYPE_U64}}) {
    const auto elements = static_cast<int32_t>(8 / DTypeBytes(dtype));
    for (const std::string& metadata : {std::string(), std::string("}")}) {
      const auto leaves = Read(TorchFileOf(tensor(name, elements, metadata), {"abcdefgh"}));
      ASSERT_TRUE(leaves.ok()) << leaves.status();
      ASSERT_EQ(leaves->size(), 1u);
      EXPECT_EQ((*leaves)[0].dtype, dtype);
      std::string bytes(8, '\0');
      ASSERT_TRUE((*leaves)[0].read(0, 8, bytes.data()).ok());
      EXPECT_EQ(bytes, "abcdefgh");
    }
    EXPECT_NE(RefusedPickle(tensor(name, elements + 1, "")), "");
  }
  EXPECT_THAT(RefusedPickle(tensor("float8_e4m3fnuz", 8, "")),
              HasSubstr("refuses torch.float8_e4m3fnuz"));
  EXPECT_THAT(RefusedPickle(tensor("uint16", 4, PickledDict("conj", "\x88"))),
              HasSubstr("lazy conjugate"));
  EXPECT_THAT(RefusedPickle(PickledDict(
                  "t", PickledTensor(PickledTuple(PickledText("storage") +
                                                  PickledGlobal("torch", "UntypedStorage") +
                                                  PickledText("0") + PickledText("cpu") +
                                                  PickledInteger(8)) +
                                         "Q",
                                     0, {2}, {1}))),
              HasSubstr("it has no dtype"));
}

// --- keys, values, containers

TEST(TorchReaderValue, WhatACheckpointCannotKeepIsRefused) {
  EXPECT_THAT(RefusedPickle("]"), HasSubstr("holds a list or a tuple, not a dictionary"));
  EXPECT_THAT(RefusedPickle("N"), HasSubstr("holds None"));
  EXPECT_THAT(RefusedPickle("}NNs"), HasSubstr("key is None"));
  EXPECT_THAT(RefusedPickle("}\x88Ns"), HasSubstr("key is a bool"));
  EXPECT_THAT(RefusedPickle(PickledDict("a", "})Ns")), HasSubstr("'a': a dictionary's key is"));
  EXPECT_THAT(RefusedPickle(PickledDict("a", "\x8a\x09" + std::string(9, '\x01'))),
              HasSubstr("'a': an integer of more than 64 bits"));
  EXPECT_THAT(RefusedPickle(PickledDict("a", PickledText("\xff"))), HasSubstr("not valid UTF-8"));
  EXPECT_THAT(RefusedPickle(PickledDict("\xed\xa0\x80", "N")), HasSubstr("not valid UTF-8"));
  EXPECT_THAT(RefusedPickle(PickledDict(std::string(5000, 'k'), "N")), HasSubstr("longer than"));
  EXPECT_THAT(RefusedPickle("}(" + PickledText("a.b") + "N" + PickledText("a") +
                            PickledDict("b", "N") + "u"),
              HasSubstr("print alike"));
  EXPECT_THAT(RefusedPickle("}(" + PickledText("1") + "N" + PickledInteger(1) + "Nu"),
              HasSubstr("print alike"));
}

TEST(TorchReaderValue, NestingIsBounded) {
  const std::string deep = Repeated("}" + PickledText("k"), 60) + "N" + Repeated("s", 60);
  EXPECT_EQ(RefusedPickle(deep), "");
  EXPECT_THAT(RefusedPickle(Repeated("}" + PickledText("k"), 65) + "N" + Repeated("s", 65)),
              HasSubstr("nested deeper than 64"));
  EXPECT_THAT(RefusedPickle(PickledDict("k", Repeated("]", 100000) + Repeated("a", 99999))),
              HasSubstr("nested deeper than 64"));
  // A list that holds itself.
  EXPECT_THAT(RefusedPickle(PickledDict("k", "]q\x01h\x01" "a")),
              HasSubstr("nested deeper than 64"));
  EXPECT_THAT(RefusedPickle("}q\x01" + PickledText("k") + "h\x01s"),
              HasSubstr("nested deeper than 64"));
}

// Ten references to ten references to ...: 10^20 strings from a few hundred bytes.
TEST(TorchReaderValue, ReferencesDoNotMultiply) {
  std::string laughs = "]q\x01" + PickledText("ha") + "a";
  for (int level = 1; level < 20; ++level) {
    laughs += "](" + Repeated(std::string("h") + static_cast<char>(level), 10) + "eq" +
              static_cast<char>(level + 1);
  }
  EXPECT_THAT(RefusedPickle("}" + PickledText("k") + "](" + laughs + "es"),
              HasSubstr("over and over"));
  std::string strings = "](" + PickledText(std::string(1 << 20, 'x')) + "q\x01" +
                        Repeated("h\x01", 1000) + "e";
  EXPECT_THAT(RefusedPickle(PickledDict("k", strings)), HasSubstr("over and over"));
}

TEST(TorchReaderValue, TheStackIsBounded) {
  EXPECT_THAT(RefusedPickle(Repeated("N", 5 << 20)), HasSubstr("too many values at once"));
  EXPECT_NE(RefusedPickle(Repeated("(", 5 << 20)), "");
}

TEST(TorchReaderValue, BrokenPicklesAreRefused) {
  const std::string whole = PickledDict(
      "t", PickledTensor(PickledStorage("FloatStorage", "0", 2), 0, {2}, {1}));
  for (size_t cut = 0; cut < whole.size(); ++cut) {
    if (cut == 1) continue;  // an empty dictionary
    EXPECT_NE(RefusedPickle(whole.substr(0, cut)), "") << cut;
  }
  // Every byte made another one: refused, or read as something else, never a crash.
  for (size_t at = 0; at < whole.size(); ++at) {
    for (const int value : {0x00, 0x28, 0x2e, 0x52, 0x7f, 0x80, 0xff}) {
      std::string changed = whole;
      changed[at] = static_cast<char>(value);
      Refusal(TorchFileOf(changed, {"01234567"}));
    }
  }
  for (const char* pickle :
       {"t",    "a",   "e",    "s",     "u",           "R",     "b",         "Q",
        "q\x01", "h\x01", "(",    "((",    "0",           "\x85",  "\x93",      "]]",
        "(N",   "]Ne", "}Ns",  "}(NNNu", "NNa",         "NNNs",  "c",         "cos",
        "cos\nsystem", "\x8a", "\x8a\x05x", "X\xff\xff\xff\xff", "T\xff\xff\xff\xff", "\x95"}) {
    EXPECT_NE(RefusedPickle(pickle), "") << pickle;
  }
  EXPECT_THAT(RefusedPickle("X\xff\xff\xff\xff"), HasSubstr("the pickle ends too early"));
  EXPECT_THAT(RefusedPickle("T\xff\xff\xff\xff"), HasSubstr("a negative length"));
  EXPECT_THAT(RefusedPickle("\x80\x05"), HasSubstr("pickle protocol 5"));
}

// --- the archive

TEST(TorchReaderArchive, WhatIsNoTorchFileIsRefused) {
  EXPECT_THAT(Refusal(ZipOf({{"a/b", "x"}})), HasSubstr("no FOLDER/data.pkl"));
  EXPECT_THAT(Refusal(ZipOf({})), HasSubstr("no FOLDER/data.pkl"));
  EXPECT_THAT(Refusal(ZipOf({{"a/data.pkl", "x"}, {"b/data.pkl", "x"}})),
              HasSubstr("two states in it"));
  EXPECT_THAT(Refusal(ZipOf({{"a/data.pkl", "x"}, {"a/constants.pkl", "x"}})),
              HasSubstr("a TorchScript archive"));
  EXPECT_THAT(Refusal(ZipOf({{"a/data.pkl", "\x80\x02}."}, {"a/byteorder", "big"}})),
              HasSubstr("byte order is 'big'"));
  EXPECT_EQ(Refusal(ZipOf({{"a/data.pkl", "\x80\x02}."}, {"a/byteorder", "little"}})), "");
  const std::string legacy =
      "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.";
  EXPECT_EQ(RecognizeTorchFormat(legacy), TorchFormat::kLegacy);
  EXPECT_THAT(Refusal(legacy), HasSubstr("before PyTorch 1.6"));
}

TEST(TorchReaderArchive, DamagedBytesAreDataLoss) {
  const std::string pickle =
      PickledDict("t", PickledTensor(PickledStorage("FloatStorage", "0", 2), 0, {2}, {1}));
  std::string bytes = TorchFileOf(pickle, {"01234567"});
  ASSERT_TRUE(Read(bytes).ok());
  const size_t at = bytes.find("01234567");
  bytes[at + 3] ^= 1;
  const absl::Status status = Read(bytes).status();
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("'made/data/0'"));
  bytes[at + 3] ^= 1;
  bytes[bytes.find("FloatStorage")] ^= 1;
  EXPECT_TRUE(absl::IsDataLoss(Read(bytes).status()));
}

// --- and what all of this is for

TEST(TorchReader, StridedTensorsAreReadInAnyPieces) {
  std::string storage(24, '\0');
  for (int i = 0; i < 24; ++i) storage[i] = static_cast<char>(i);
  // Six shorts of twelve, every other column, transposed: 2 x 3.
  const auto leaves =
      Read(TorchFileOf(PickledDict("t", PickledTensor(PickledStorage("ShortStorage", "0", 12), 1,
                                                      {2, 3}, {2, 4})),
                       {storage}));
  ASSERT_TRUE(leaves.ok()) << leaves.status();
  std::string dense;
  for (int i = 0; i < 2; ++i) {
    for (int j = 0; j < 3; ++j) dense += storage.substr(2 * (1 + 2 * i + 4 * j), 2);
  }
  for (size_t begin = 0; begin <= dense.size(); ++begin) {
    for (size_t end = begin; end <= dense.size(); ++end) {
      std::string bytes(end - begin, '\xee');
      ASSERT_TRUE((*leaves)[0].read(begin, bytes.size(), bytes.data()).ok());
      EXPECT_EQ(bytes, dense.substr(begin, end - begin)) << begin << " to " << end;
    }
  }
}

TEST(TorchReader, EqualViewsAreAliases) {
  const auto tensor = [](int32_t offset) {
    return PickledTensor(PickledStorage("FloatStorage", "0", 2), offset, {1}, {1});
  };
  const auto leaves =
      Read(TorchFileOf("}(" + PickledText("a") + tensor(0) + PickledText("b") + tensor(1) +
                           PickledText("c") + tensor(0) + "u",
                       {"01234567"}));
  ASSERT_TRUE(leaves.ok()) << leaves.status();
  ASSERT_EQ(leaves->size(), 3u);
  EXPECT_FALSE((*leaves)[0].alias_of.has_value());
  EXPECT_FALSE((*leaves)[1].alias_of.has_value());
  EXPECT_EQ((*leaves)[2].alias_of, 0u);
}

TEST(TorchReader, AFileThatShrinksMeanwhileIsNoticed) {
  ScratchFolder folder;
  const std::string path = folder / "a.pt";
  std::ofstream(path, std::ios::binary)
      << TorchFileOf("}(" + PickledText("plain") +
                         PickledTensor(PickledStorage("FloatStorage", "0", 2), 0, {2}, {1}) +
                         PickledText("strided") +
                         PickledTensor(PickledStorage("FloatStorage", "1", 4), 0, {2}, {2}) + "u",
                     {"01234567", "0123456789abcdef"});
  const auto file = InputFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  const auto leaves = ReadTorchFile(*file);
  ASSERT_TRUE(leaves.ok()) << leaves.status();
  ASSERT_EQ(truncate(path.c_str(), 20), 0);
  char bytes[8];
  for (const ImportLeaf& leaf : *leaves) {
    EXPECT_TRUE(absl::IsDataLoss(leaf.read(0, 8, bytes))) << PrintKey(leaf.key);
  }
}

}  // namespace
}  // namespace ckpt::cli
