// Pictures inside tar files: long names, captions, and files that are damaged.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>

#include "samples/pictures.h"
#include "tandem/error.h"

namespace tandem::samples {
namespace {

namespace fs = std::filesystem;

std::string padded(std::string bytes) {
  bytes.resize((bytes.size() + 511) / 512 * 512);
  return bytes;
}

std::string member(const std::string& name, const std::string& bytes, char kind = '0', const std::string& folder = "") {
  std::string header(512, '\0');
  char size[12];
  std::snprintf(size, sizeof size, "%011o", static_cast<unsigned>(bytes.size()));
  header.replace(0, name.size(), name).replace(124, 11, size, 11).replace(148, 8, "        ").replace(257, 5, "ustar");
  header.replace(345, folder.size(), folder);
  header[156] = kind;
  unsigned sum = 0;
  for (const char c : header) sum += static_cast<unsigned char>(c);
  char digits[8];
  std::snprintf(digits, sizeof digits, "%06o", sum);
  header.replace(148, 7, digits, 7);
  return header + padded(bytes);
}

class Tars : public testing::Test {
 protected:
  Tars() : path_(fs::temp_directory_path() / ("tandem_tar_" + std::to_string(::getpid()) + ".tar")) {}
  ~Tars() override { fs::remove(path_); }
  std::unique_ptr<Pictures> open(const std::string& bytes, const PicturesOptions& options = {}) {
    std::ofstream(path_, std::ios::binary) << bytes;
    return open_pictures(path_.string(), options);
  }
  Code code(const std::string& bytes) {
    try {
      open(bytes);
    } catch (const Error& e) {
      return e.code();
    }
    return Code::internal;
  }
  static std::string bytes(const Pictures& pictures, std::size_t i) {
    const auto image = std::get<EncodedImage>(pictures.open(i));
    return {reinterpret_cast<const char*>(image.bytes->data()), image.bytes->size()};
  }
  const std::string end_ = std::string(1024, '\0');
  fs::path path_;
};

TEST_F(Tars, PicturesAndTheirCaptions) {
  const std::string long_name = std::string(150, 'n') + ".png", big(1000, 'b');
  const std::string tar = member("d/", "", '5') + member("000.jpg", "first") + member("000.txt", "a cat\n") +
                          member("001.txt", "a dog") + member("001.jpg", big, '0', "some/folder") +
                          member("././@LongLink", long_name + '\0', 'L') + member("cut", "third") +
                          member("x", "20 path=p/pax.webp\n", 'x') + member("002.json", "fourth") +
                          member("003.json", "{}") + end_;
  const auto pictures = open(tar);
  ASSERT_EQ(pictures->size(), 4U);
  EXPECT_EQ(pictures->name(0), path_.string() + "/000.jpg");
  EXPECT_EQ(pictures->name(1), path_.string() + "/some/folder/001.jpg");
  EXPECT_EQ(pictures->name(2), path_.string() + "/" + long_name);
  EXPECT_EQ(pictures->name(3), path_.string() + "/p/pax.webp");
  EXPECT_EQ(bytes(*pictures, 0), "first");
  EXPECT_EQ(bytes(*pictures, 1), big);
  EXPECT_EQ(bytes(*pictures, 2), "third");
  EXPECT_EQ(pictures->labels(), std::vector<std::string>{"a cat"});  // 001.txt is in another folder
  EXPECT_EQ(pictures->accepted(0).size(), 1U);
  EXPECT_TRUE(pictures->accepted(1).empty());
  PicturesOptions two;
  two.count = 2;
  EXPECT_EQ(open(tar, two)->size(), 2U);
}

TEST_F(Tars, WhatIsDamagedOrEmptyIsRefused) {
  const std::string tar = member("000.jpg", std::string(700, 'x'));
  EXPECT_EQ(open(tar)->size(), 1U);  // without its end it is still whole
  EXPECT_EQ(code(tar.substr(0, 512 + 600)), Code::bad_data);
  EXPECT_EQ(code(tar.substr(0, 300)), Code::bad_data);
  std::string changed = tar;
  changed[3] = 'y';
  EXPECT_EQ(code(changed), Code::bad_data);
  EXPECT_EQ(code(member("000.txt", "x") + end_), Code::not_found);
  EXPECT_EQ(code(""), Code::not_found);
  // A size of all bits is no size.
  std::string huge = tar;
  huge[124] = '\x80';
  EXPECT_EQ(code(huge), Code::bad_data);
}

}  // namespace
}  // namespace tandem::samples
