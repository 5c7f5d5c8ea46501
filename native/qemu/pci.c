/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vhost-blk on PCI: to the guest the same device as virtio-blk-pci, ids included (virtio 1.3, 4.1.2).
 */
#include "vhost-blk.h"
#include "hw/qdev-properties.h"
#include "hw/virtio/virtio-pci.h"

#define TYPE_VHOST_BLK_PCI "vhost-blk-pci-base"
OBJECT_DECLARE_SIMPLE_TYPE(VHostBlkPCI, VHOST_BLK_PCI)

struct VHostBlkPCI {
    VirtIOPCIProxy parent_obj;
    VHostBlk vdev;
};

static void vhost_blk_pci_realize(VirtIOPCIProxy *proxy, Error **errp)
{
    VHostBlkPCI *dev = VHOST_BLK_PCI(proxy);
    VirtIOBlkConf *conf = &VIRTIO_BLK(&dev->vdev)->conf;

    if (conf->num_queues == VIRTIO_BLK_AUTO_NUM_QUEUES) {
        conf->num_queues = virtio_pci_optimal_num_queues(0);
    }
    if (proxy->nvectors == DEV_NVECTORS_UNSPECIFIED) {
        proxy->nvectors = conf->num_queues + 1;
    }
    qdev_realize(DEVICE(&dev->vdev), BUS(&proxy->bus), errp);
}

static const Property vhost_blk_pci_properties[] = {
    DEFINE_PROP_UINT32("class", VirtIOPCIProxy, class_code, 0),
    DEFINE_PROP_BIT("ioeventfd", VirtIOPCIProxy, flags, VIRTIO_PCI_FLAG_USE_IOEVENTFD_BIT, true),
    DEFINE_PROP_UINT32("vectors", VirtIOPCIProxy, nvectors, DEV_NVECTORS_UNSPECIFIED),
};

static void vhost_blk_pci_class_init(ObjectClass *klass, VHostBlkClassData data)
{
    DeviceClass *dc = DEVICE_CLASS(klass);
    PCIDeviceClass *pc = PCI_DEVICE_CLASS(klass);

    set_bit(DEVICE_CATEGORY_STORAGE, dc->categories);
    dc->desc = "virtio-blk served by the host kernel (vhost-blk)";
    device_class_set_props(dc, vhost_blk_pci_properties);
    VIRTIO_PCI_CLASS(klass)->realize = vhost_blk_pci_realize;
    pc->vendor_id = PCI_VENDOR_ID_REDHAT_QUMRANET;
    pc->device_id = PCI_DEVICE_ID_VIRTIO_BLOCK;
    pc->revision = VIRTIO_PCI_ABI_VERSION;
    pc->class_id = PCI_CLASS_STORAGE_SCSI;
}

static void vhost_blk_pci_instance_init(Object *obj)
{
    VHostBlkPCI *dev = VHOST_BLK_PCI(obj);

    virtio_instance_init_common(obj, &dev->vdev, sizeof(dev->vdev), TYPE_VHOST_BLK);
    object_property_add_alias(obj, "bootindex", OBJECT(&dev->vdev), "bootindex");
}

static const VirtioPCIDeviceTypeInfo vhost_blk_pci_info = {
    .base_name = TYPE_VHOST_BLK_PCI,
    .generic_name = "vhost-blk-pci",
    .transitional_name = "vhost-blk-pci-transitional",
    .non_transitional_name = "vhost-blk-pci-non-transitional",
    .instance_size = sizeof(VHostBlkPCI),
    .instance_init = vhost_blk_pci_instance_init,
    .class_init = vhost_blk_pci_class_init,
};

void vblk_register_pci_types(void)
{
    virtio_pci_types_register(&vhost_blk_pci_info);
}
