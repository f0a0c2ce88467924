#!/bin/bash
# Takes out of a Debian system with Python what a container of Dossier has no use for. Run while the image is built.
set -euo pipefail
shopt -s nullglob

# Whom the parts run as, and the folders that volumes are mounted on: an empty volume takes their owner.
echo 'dossier:x:10001:10001::/nonexistent:/usr/sbin/nologin' >>/etc/passwd
echo 'dossier:x:10001:' >>/etc/group
install -d -m 0755 /var/lib/dossier
install -d -m 0700 -o 10001 -g 10001 /var/lib/dossier/{keyring,supplements,checkpoints}

# Setuid and setgid bits: nobody becomes another.
find / -xdev -type f -perm /6000 -exec chmod a-s {} +

# Python's own installer, and parts of its library that only a workbench needs.
rm -rf /usr/local/lib/python3*/site-packages/* /usr/lib/python3/dist-packages/* /usr/local/bin/{pip,wheel,idle,2to3,pydoc}* \
  /usr/{,local/}lib/python3*/{ensurepip,idlelib,tkinter,turtledemo,turtle.py,lib2to3,distutils,pydoc_data,test} \
  /usr/share/python-wheels /usr/share/python3 /usr/local/lib/python3*/config-* /usr/local/include /usr/include
# What is left of it is compiled once, here: nothing can be written where it runs, and health checks start it often.
python3 -m compileall -q -f -j 0 --invalidation-mode unchecked-hash "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"

# Documents, languages, logs, caches.
rm -rf /usr/share/{doc,doc-base,man,info,locale,i18n,bash-completion,bug,lintian,menu,common-licenses/.keep,pixmaps} \
  /usr/lib/systemd /lib/systemd /etc/systemd /var/log/* /var/cache/* /var/backups/* /tmp/* /root/.[a-z]* /usr/lib/udev /lib/udev

# Package managers, Perl, and what needs them. Last, as it takes tools of its own away.
mkdir /keep && cp -a /var/lib/dpkg/status /keep/
rm -rf /usr/bin/{apt,dpkg,deb,gpgv,perl,debconf,update-alternatives,catchsegv,chage,chfn,chsh,gpasswd,passwd,newgrp,expiry}* \
  /usr/sbin/{dpkg,debconf,adduser,addgroup,deluser,delgroup,useradd,userdel,usermod,groupadd,groupdel,groupmod,chpasswd,chgpasswd,newusers,update-}* \
  /bin/{su,mount,umount} /usr/bin/{su,mount,umount} /usr/sbin/{mkfs,fsck,mke2fs,e2fsck,resize2fs,tune2fs,debugfs,dumpe2fs,fdisk,sfdisk,cfdisk}* \
  /sbin/{mkfs,fsck,mke2fs,e2fsck,resize2fs,tune2fs,debugfs,dumpe2fs,fdisk,sfdisk,cfdisk}* \
  /usr/lib/{apt,dpkg,perl,gnupg} /usr/lib/*/{perl,perl-base} /usr/share/{perl,perl5,debconf,dpkg,gcc,debhelper,keyrings,debianutils,adduser} \
  /usr/lib/*/lib{apt-pkg,apt-private,perl}* /etc/{apt,dpkg,perl,debconf.conf,cron.daily,logrotate.d} /var/lib/{apt,dpkg,pam,debconf}
mkdir -p /var/lib/dpkg && mv /keep/status /var/lib/dpkg/ && rmdir /keep
