#include "server/index/rocks_log.h"

#include <cstdio>

#include "absl/strings/ascii.h"
#include "absl/strings/string_view.h"
#include "server/observe/log.h"

namespace ckpt {
namespace {

class RocksLog : public rocksdb::Logger {
 public:
  RocksLog() : Logger(rocksdb::InfoLogLevel::WARN_LEVEL) {}

  void Logv(const char*, va_list) override {}  // settings and statistics
  void Logv(const rocksdb::InfoLogLevel level, const char* format, va_list arguments) override {
    if (level < GetInfoLogLevel() || level == rocksdb::InfoLogLevel::HEADER_LEVEL) return;
    char line[1024];
    std::vsnprintf(line, sizeof(line), format, arguments);
    const absl::string_view text = absl::StripAsciiWhitespace(line);
    if (level == rocksdb::InfoLogLevel::WARN_LEVEL) {
      observe::Warning("index", {{"rocksdb", text}});
    } else {
      observe::Error("index", {{"rocksdb", text}});
    }
  }
};

}  // namespace

std::shared_ptr<rocksdb::Logger> MakeRocksLog() { return std::make_shared<RocksLog>(); }

}  // namespace ckpt
