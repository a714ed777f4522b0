// Errors on the wire: the same code, text bounded and printable.
#include "server/rpc/grpc_status.h"

#include <string>

#include "common/limits.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ckpt {
namespace {

TEST(GrpcStatusTest, CodesAndTextsStay) {
  EXPECT_TRUE(ToGrpcStatus(absl::OkStatus()).ok());
  const grpc::Status status = ToGrpcStatus(absl::NotFoundError("no step 3"));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(status.error_message(), "no step 3");
  EXPECT_EQ(ToGrpcStatus(absl::DataLossError("")).error_code(), grpc::StatusCode::DATA_LOSS);
  EXPECT_EQ(ToGrpcStatus(absl::UnauthenticatedError("")).error_code(),
            grpc::StatusCode::UNAUTHENTICATED);
}

TEST(GrpcStatusTest, LongTextsAreCutAndSaySo) {
  const grpc::Status status = ToGrpcStatus(absl::InternalError(std::string(100000, 'x')));
  EXPECT_LE(status.error_message().size(), kErrorBytesMax);
  EXPECT_THAT(status.error_message(), ::testing::EndsWith(" bytes cut]"));
}

TEST(GrpcStatusTest, BytesThatAreNoTextAreEscaped) {
  const std::string text =
      ToGrpcStatus(absl::InvalidArgumentError(std::string("a\0\xff\x1b[31m\xc3(", 10)))
          .error_message();
  for (const char c : text) EXPECT_TRUE(c >= 0x20 && c < 0x7F) << static_cast<int>(c);
}

TEST(GrpcStatusTest, CutDoesNotSplitACharacter) {
  std::string text;
  while (text.size() < 10000) text += "\xE2\x82\xAC";
  const std::string cut = ToGrpcStatus(absl::InternalError(text)).error_message();
  const size_t mark = cut.find(" [");
  EXPECT_EQ(mark % 3, 0u);
}

}  // namespace
}  // namespace ckpt
