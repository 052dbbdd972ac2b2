# SPDX-License-Identifier: Apache-2.0
# Read by every package that `make setup` builds, right after its project().
#
# Python over Fast DDS needs what rosidl generates for C and Python; C++ is most of the build time.
# Introspection in C is kept: Fast DDS asks for it and complains at length where it is absent. A
# colcon workspace does not read this file and generates everything.

find_package(rosidl_default_generators REQUIRED)
# The generators have registered themselves as "package:file.cmake".
list(FILTER AMENT_EXTENSIONS_rosidl_generate_idl_interfaces EXCLUDE REGEX "_cpp:")

# The type support is C++ with heavy headers, and compiles several times faster as one file.
function(compile_type_support_as_one_file)
  foreach(suffix rosidl_typesupport_c rosidl_typesupport_fastrtps_c)
    set_target_properties(${PROJECT_NAME}__${suffix} PROPERTIES
      UNITY_BUILD ON
      UNITY_BUILD_BATCH_SIZE 0)
  endforeach()
endfunction()
cmake_language(DEFER CALL compile_type_support_as_one_file)
