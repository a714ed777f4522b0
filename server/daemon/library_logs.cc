#include "server/daemon/library_logs.h"

#include <string>

#include "google/protobuf/stubs/logging.h"
#include "grpc/support/log.h"
#include "server/observe/log.h"

namespace ckpt {
namespace {

// Theirs are about one connection or one message, and nothing of ours failed.
void FromGrpc(gpr_log_func_args* line) {
  const bool error = line->severity == GPR_LOG_SEVERITY_ERROR;
  observe::Event(error ? observe::Severity::kWarning : observe::Severity::kDebug, "grpc",
                 {{"text", line->message}});
}

void FromProtobuf(google::protobuf::LogLevel level, const char*, int, const std::string& text) {
  observe::Event(
      level >= google::protobuf::LOGLEVEL_ERROR ? observe::Severity::kWarning
                                                : observe::Severity::kDebug,
      "protobuf", {{"text", text}});
}

}  // namespace

void TakeLibraryLogs() {
  gpr_set_log_function(FromGrpc);
  google::protobuf::SetLogHandler(FromProtobuf);
}

}  // namespace ckpt
